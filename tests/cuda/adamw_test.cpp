// SPDX-License-Identifier: Apache-2.0
//
// AdamW and the norm that clips, on a device: all tensors of all members in one call.
#include <cmath>

#include "kernels/cuda/launchers.h"
#include "kernels/reference/reference.h"
#include "tests/cuda/device.h"

namespace rewardhead::kernels::cuda::testing {
namespace {

constexpr double kRoundoff = 0x1p-24;

// The four tensors of all members, one after another, on the host.
struct Values {
  std::vector<float> tensors[4];
  template <class Next>
  void fill(const int64_t (&counts)[4], int64_t members, const Next& next) {
    for (int i = 0; i < 4; ++i) {
      for (int64_t k = 0; k < members * counts[i]; ++k) tensors[i].push_back(static_cast<float>(next()));
    }
  }
};

struct Heads {
  int64_t input, hidden, members;
  int64_t counts[4] = {std::max<int64_t>(hidden, 1) * input, hidden, hidden, hidden ? 1 : 0};
  Values parameters, gradients, first, second;

  Heads(int64_t input_dim, int64_t hidden_dim, int64_t heads, Random& random, double size)
      : input(input_dim), hidden(hidden_dim), members(heads) {
    std::normal_distribution<double> normal;
    parameters.fill(counts, members, [&] { return normal(random); });
    gradients.fill(counts, members, [&] { return size * normal(random); });
    first.fill(counts, members, [&] { return size * normal(random); });
    second.fill(counts, members, [&] { return std::pow(size * normal(random), 2); });
  }
};

class DeviceValues {
 public:
  DeviceValues(const Values& values, int64_t offset) {
    for (const auto& tensor : values.tensors) {
      arrays_.push_back(tensor.empty() ? Array<float>(0) : Array<float>::of(tensor, offset));
    }
  }
  HeadTensors<float> view() const { return {arrays_[0].data(), arrays_[1].data(), arrays_[2].data(), arrays_[3].data()}; }
  Values values() const {
    Values copy;
    for (int i = 0; i < 4; ++i) copy.tensors[i] = arrays_[i].values();
    return copy;
  }

 private:
  std::vector<Array<float>> arrays_;
};

struct Outcome {
  Values parameters, gradients, first, second;
  std::vector<float> norm;
};
bool same_results(const Outcome& a, const Outcome& b) {
  bool same = same_bits(a.norm, b.norm);
  for (int i = 0; i < 4; ++i) {
    same = same && same_bits(a.parameters.tensors[i], b.parameters.tensors[i]) &&
           same_bits(a.first.tensors[i], b.first.tensors[i]) && same_bits(a.second.tensors[i], b.second.tensors[i]);
  }
  return same;
}

// Sets the options and runs; `offset` elements off alignment.
Outcome run(const Heads& heads, AdamwStep step, bool with_norm, int64_t offset) {
  DeviceValues parameters(heads.parameters, offset), gradients(heads.gradients, offset), first(heads.first, offset),
      second(heads.second, offset);
  Array<float> norm(heads.members);
  Array<unsigned char> workspace(static_cast<int64_t>(adamw_workspace(heads.input, heads.hidden, heads.members)));
  step.parameters = parameters.view();
  step.gradients = gradients.view();
  step.first_moments = first.view();
  step.second_moments = second.view();
  step.input = heads.input;
  step.hidden = heads.hidden;
  step.members = heads.members;
  step.gradient_norm = with_norm ? norm.data() : nullptr;
  check(adamw(step, workspace.data(), stream()));
  return {parameters.values(), gradients.values(), first.values(), second.values(), norm.values()};
}

AdamwStep options(int64_t step) {
  AdamwStep s = {};
  s.learning_rate = 1e-3;
  s.beta1 = 0.9;
  s.beta2 = 0.999;
  s.epsilon = 1e-8;
  s.weight_decay = 0.01;
  s.step = step;
  return s;
}

// The bounds of tests/kernels/optimizer_test.cpp, and 2 u more of m and v for the scale.
void expect_step(const Heads& heads, const AdamwStep& o, const Outcome& outcome, const std::vector<double>& scales) {
  const double bias1 = 1 - std::pow(o.beta1, static_cast<double>(o.step));
  const double bias2 = 1 - std::pow(o.beta2, static_cast<double>(o.step));
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(same_bits(outcome.gradients.tensors[i], heads.gradients.tensors[i]));
    std::vector<float> parameter = heads.parameters.tensors[i], first = heads.first.tensors[i],
                       second = heads.second.tensors[i];
    for (int64_t member = 0; member < heads.members && heads.counts[i] > 0; ++member) {
      const int64_t begin = member * heads.counts[i];
      const double scale = scales[member];
      reference::adamw({heads.counts[i], &parameter[begin], &heads.gradients.tensors[i][begin], &first[begin],
                        &second[begin], o.learning_rate, o.beta1, o.beta2, o.epsilon, o.weight_decay, scale, o.step});
      for (int64_t k = begin; k < begin + heads.counts[i]; ++k) {
        const double g = scale * heads.gradients.tensors[i][k];
        const double m_size =
            std::abs(o.beta1 * heads.first.tensors[i][k]) + std::abs((1 - o.beta1) * g);
        const double v = o.beta2 * heads.second.tensors[i][k] + (1 - o.beta2) * g * g;
        const double denominator = std::sqrt(v / bias2) + o.epsilon, rate = o.learning_rate / bias1 / denominator;
        ASSERT_NEAR(outcome.first.tensors[i][k], first[k], 7 * kRoundoff * m_size + 0x1p-148) << i << ' ' << k;
        ASSERT_NEAR(outcome.second.tensors[i][k], second[k], 10 * kRoundoff * v + 0x1p-148) << i << ' ' << k;
        const double root_error = std::min(1.0, std::sqrt(0x1p-147 / bias2) / denominator);
        const double bound = 3 * kRoundoff * std::abs(heads.parameters.tensors[i][k]) +
                             22 * kRoundoff * rate * m_size + rate * (0x1p-147 + m_size * root_error) + 0x1p-148;
        ASSERT_NEAR(outcome.parameters.tensors[i][k], parameter[k], bound) << i << ' ' << k;
      }
    }
  }
}

struct Size {
  int64_t input, hidden, members;
};
constexpr Size kSizes[] = {{1, 0, 1}, {5, 0, 3}, {4097, 0, 1}, {7, 3, 1}, {33, 130, 2}, {64, 8, 1}};

void expect_unclipped(const Size& size, int64_t step, double magnitude, Random& random) {
  SCOPED_TRACE(::testing::Message() << size.input << 'x' << size.hidden << 'x' << size.members << " step " << step
                                    << " magnitude " << magnitude);
  const Heads heads(size.input, size.hidden, size.members, random, magnitude);
  AdamwStep o = options(step);
  if (step == 10) o.beta1 = o.beta2 = o.weight_decay = 0;
  const Outcome outcome = run(heads, o, false, 0);
  expect_step(heads, o, outcome, std::vector<double>(size.members, 1.0));
  ASSERT_TRUE(std::isnan(outcome.norm[0]));
  ASSERT_TRUE(same_results(run(heads, o, false, 1), outcome)) << "an element's result depends on alignment";
}

TEST_P(DeviceTest, AdamwWithinTheErrorBound) {
  Random random(31);
  for (const Size size : kSizes) {
    for (const int64_t step : {1, 10, 1000000}) {
      expect_unclipped(size, step, step == 10 ? 1e-20 : 0.01, random);
      if (HasFatalFailure()) return;
    }
  }
}

// Norms are sums of squares within 64 + 1 u of their size, so roots within half of that; the scale divides once more.
void expect_clipped(const Size& size, double clip, Random& random) {
  SCOPED_TRACE(::testing::Message() << size.input << 'x' << size.hidden << 'x' << size.members << " clip " << clip);
  const Heads heads(size.input, size.hidden, size.members, random, 0.1);
  AdamwStep o = options(3);
  o.clip_norm = clip;
  const Outcome outcome = run(heads, o, true, 0);
  std::vector<double> scales;
  for (int64_t member = 0; member < size.members; ++member) {
    double squares = 0;
    for (int i = 0; i < 4; ++i) {
      squares += reference::sum_of_squares(heads.gradients.tensors[i].data() + member * heads.counts[i],
                                           heads.counts[i]);
    }
    const double norm = std::sqrt(squares);
    ASSERT_NEAR(outcome.norm[member], norm, 34 * kRoundoff * norm);
    const double measured = outcome.norm[member];
    scales.push_back(clip > 0 && measured + 1e-6 > clip ? clip / (measured + 1e-6) : 1);
  }
  expect_step(heads, o, outcome, scales);
  ASSERT_TRUE(same_results(run(heads, o, true, 3), outcome));
}

TEST_P(DeviceTest, AdamwClipsEachMember) {
  Random random(32);
  for (const Size size : kSizes) {
    for (const double clip : {0.0, 0.05, 1e6}) {
      expect_clipped(size, clip, random);
      if (HasFatalFailure()) return;
    }
  }
}

// Integers: squares and their sums are exact, in two partial sums.
TEST_P(DeviceTest, AdamwNormExact) {
  Random random(33);
  Heads heads(5000, 0, 1, random, 1);
  double squares = 0;
  for (float& g : heads.gradients.tensors[0]) {
    g = static_cast<float>(draw(random, -9, 9));
    squares += double{g} * g;
  }
  EXPECT_EQ(run(heads, options(1), true, 0).norm[0], static_cast<float>(std::sqrt(squares)));
}

// Not hidden, and only in the member that it belongs to.
TEST_P(DeviceTest, AdamwKeepsNanInItsMember) {
  Random random(34);
  Heads heads(6, 2, 3, random, 1);
  heads.gradients.tensors[1][2] = std::numeric_limits<float>::quiet_NaN();  // b1 of member 1
  AdamwStep o = options(1);
  o.clip_norm = 1;
  const Outcome outcome = run(heads, o, true, 0);
  for (int64_t member = 0; member < 3; ++member) {
    EXPECT_EQ(std::isnan(outcome.norm[member]), member == 1);
    EXPECT_EQ(std::isnan(outcome.parameters.tensors[0][member * 12]), member == 1);
  }
}

class GeneratedAdamw : public GeneratedTest {
 protected:
  Size draw_size() {
    const int64_t hidden = one_in(3) ? 0 : draw_of({{1, 9}, {60, 70}});
    return {hidden ? draw_of({{1, 20}, {60, 70}}) : draw_of({{1, 9}, {4090, 4100}}), hidden, draw(random, 1, 3)};
  }
};
TEST_P(GeneratedAdamw, WithinTheErrorBound) {
  const Size size = draw_size();
  const int64_t step = draw_of({{1, 3}, {10, 100}, {1000000, 1000000}});
  expect_unclipped(size, step, std::pow(10.0, draw(random, -12, 1)), random);
}
TEST_P(GeneratedAdamw, ClipsEachMember) {
  const Size size = draw_size();
  expect_clipped(size, one_in(4) ? 0 : std::pow(10.0, draw(random, -2, 3)), random);
}
RH_GENERATE(GeneratedAdamw, 60);

}  // namespace
}  // namespace rewardhead::kernels::cuda::testing
