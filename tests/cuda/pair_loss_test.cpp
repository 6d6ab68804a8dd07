// SPDX-License-Identifier: Apache-2.0
//
// The pair loss on a device. Exact where softplus and sigmoid are: sigmoid(0) = 1/2, and from |d| = 256 on softplus is
// max(d, 0) and sigmoid 0 or 1 in fp32. Elsewhere within the bound of the CPU's (tests/kernels/pair_loss_test.cpp),
// whose softplus it shares.
#include <cmath>
#include <limits>
#include <optional>

#include "kernels/cuda/launchers.h"
#include "kernels/reference/reference.h"
#include "tests/cuda/device.h"

namespace rewardhead::kernels::cuda::testing {
namespace {

struct PairProblem {
  PairProblem(int64_t row_count, int64_t pair_count, int64_t member_count = 1)
      : rewards(member_count * row_count), rows(row_count), pairs(pair_count), members(member_count) {}

  // Even rows against odd ones.
  void draw_pairs(Random& random) {
    for (int64_t p = 0; p < pairs; ++p) {
      chosen.push_back(static_cast<int32_t>(2 * draw(random, 0, (rows - 1) / 2)));
      rejected.push_back(static_cast<int32_t>(2 * draw(random, 0, rows / 2 - 1) + 1));
    }
  }

  std::vector<float> rewards;  // [members, rows]
  int64_t rows, pairs, members;
  std::vector<int32_t> chosen, rejected;
  std::vector<float> margin, weight, label;  // empty: not given; weight [members, pairs]
  double normalizer = 1;
};

template <class T>
const T* pointer(const std::vector<T>& values) {
  return values.empty() ? nullptr : values.data();
}

struct LossResults {
  std::vector<float> losses, gradient;  // of all members
  uint32_t bad_pairs;
  float loss() const { return losses[0]; }
};
bool same_results(const LossResults& a, const LossResults& b) {
  return same_bits(a.losses, b.losses) && same_bits(a.gradient, b.gradient) && a.bad_pairs == b.bad_pairs;
}

LossResults run(const PairProblem& p, bool with_gradient = true) {
  const auto upload = [](const auto& values) {
    using Element = std::remove_cvref_t<decltype(values[0])>;
    return values.empty() ? Array<Element>(1) : Array<Element>::of(values);
  };
  const auto rewards = upload(p.rewards), margin = upload(p.margin), weight = upload(p.weight), label = upload(p.label);
  const auto chosen = upload(p.chosen), rejected = upload(p.rejected);
  Array<float> loss(p.members), gradient(std::ssize(p.rewards));
  const Array<uint32_t> bad_pairs = Array<uint32_t>::of(std::vector<uint32_t>{0});
  const int64_t rows = p.rows;
  Array<unsigned char> workspace(static_cast<int64_t>(pair_loss_workspace(rows, p.pairs, p.members)));
  const auto given = [](const auto& values, const auto& array) { return values.empty() ? nullptr : array.data(); };
  check(pair_loss({rewards.data(), rows, p.pairs, given(p.chosen, chosen), given(p.rejected, rejected),
                   given(p.margin, margin), given(p.weight, weight), given(p.label, label), p.normalizer, loss.data(),
                   with_gradient ? gradient.data() : nullptr, p.members},
                  bad_pairs.data(), workspace.data(), stream()));
  return {loss.values(), gradient.values(), bad_pairs.values()[0]};
}

struct LossExpected {
  explicit LossExpected(const PairProblem& p) : gradient(p.rewards.size()) {
    const std::vector<double> rewards(p.rewards.begin(), p.rewards.end());
    std::vector<double> sums(rewards.size());
    loss = reference::pair_loss(rewards.data(), static_cast<int64_t>(p.rewards.size()), p.pairs, pointer(p.chosen),
                                pointer(p.rejected), pointer(p.margin), pointer(p.weight), pointer(p.label),
                                p.normalizer, gradient.data(), sums.data());
  }
  double loss;
  std::vector<double> gradient;
};

// One to three blocks, both forms of lists.
constexpr int64_t kPairs[] = {1, 2, 31, 33, 255, 257, 1023, 1024, 1025, 2500};

// What a problem has: adjacent rows are its pairs unless it is a list.
enum Options { kListed = 1, kMargins = 2, kWeights = 4, kLabels = 8 };

// Even multiples of 256 are chosen, odd ones rejected; margins are multiples of 512, so d is never 0.
void expect_exact(int64_t rows, int64_t pairs, int options, Random& random) {
  SCOPED_TRACE(::testing::Message() << rows << " rows, " << pairs << " pairs, options " << options);
  PairProblem p(rows, pairs);
  for (int64_t row = 0; row < rows; ++row) {
    p.rewards[row] = static_cast<float>(512 * draw(random, -3, 3) + (row % 2 ? 256 : 0));
  }
  if (options & kListed) p.draw_pairs(random);
  for (int64_t i = 0; i < pairs; ++i) {
    if (options & kMargins) p.margin.push_back(static_cast<float>(512 * draw(random, -1, 1)));
    if (options & kWeights) p.weight.push_back(static_cast<float>(draw(random, 0, 3)));
    if (options & kLabels) p.label.push_back(static_cast<float>(draw(random, 0, 4)) / 4);
  }
  const LossExpected expected(p);
  const LossResults results = run(p);
  ASSERT_EQ(results.loss(), static_cast<float>(expected.loss));
  for (int64_t row = 0; row < rows; ++row) {
    ASSERT_EQ(results.gradient[row], static_cast<float>(expected.gradient[row])) << row;
    ASSERT_FALSE(results.gradient[row] == 0 && std::signbit(results.gradient[row])) << row;
  }
  ASSERT_EQ(results.bad_pairs, 0u);
}

TEST_P(DeviceTest, PairLossExact) {
  Random random(21);
  for (const int64_t pairs : kPairs) {
    for (int options = 0; options < 16; ++options) {
      const int64_t rows = options & kListed ? 5 + 40 * (options / 4) : 2 * pairs + options % 3;
      expect_exact(rows, pairs, options, random);
      if (HasFatalFailure()) return;
    }
  }
}

// 8 u covers the 2 ulp of softplus and sigmoid, the products and 1 / normalizer; 2 u the two roundings of d; 4 u a
// thread's losses in fp32. Sums beyond are in fp64.
void expect_accurate(double spread, int64_t rows, int64_t pairs, int options, Random& random) {
  constexpr double unit = 0x1p-24;
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform(0, 1);
  SCOPED_TRACE(::testing::Message() << "spread " << spread << " rows " << rows << " pairs " << pairs << " options "
                                    << options);
  PairProblem p(rows, pairs);
  p.normalizer = 3;
  for (float& reward : p.rewards) reward = static_cast<float>(spread * normal(random));
  if (options & kListed) p.draw_pairs(random);
  for (int64_t i = 0; i < pairs && options & kWeights; ++i) {
    p.margin.push_back(static_cast<float>(normal(random)));
    p.weight.push_back(static_cast<float>(std::exp(normal(random))));
    p.label.push_back(static_cast<float>(uniform(random)));
  }
  const LossExpected expected(p);
  double loss_bound = 0;
  std::vector<double> bound(p.rewards.size());
  for (int64_t i = 0; i < pairs; ++i) {
    const int64_t c = options & kListed ? p.chosen[i] : 2 * i, r = options & kListed ? p.rejected[i] : 2 * i + 1;
    const double margin = p.margin.empty() ? 0 : p.margin[i], weight = p.weight.empty() ? 1 : p.weight[i];
    const double label = p.label.empty() ? 1 : p.label[i];
    const double plain = double{p.rewards[c]} - p.rewards[r], d = plain - margin;
    const double shift = unit * (std::abs(plain) + std::abs(d));
    const double loss = label * reference::softplus(-d) + (1 - label) * reference::softplus(d);
    const double slope = label * reference::sigmoid(-d) + (1 - label) * reference::sigmoid(d);
    loss_bound += weight * (12 * unit * loss + shift) / p.normalizer;
    const double slope_bound = weight * slope * (8 * unit + shift) / p.normalizer + 0x1p-149;
    bound[c] += slope_bound;
    bound[r] += slope_bound;
  }
  const LossResults results = run(p);
  ASSERT_NEAR(results.loss(), expected.loss, loss_bound + unit * expected.loss);
  for (int64_t row = 0; row < rows; ++row) {
    ASSERT_NEAR(results.gradient[row], expected.gradient[row],
                bound[row] + unit * std::abs(expected.gradient[row])) << row;
  }
  ASSERT_TRUE(same_results(run(p), results));
  const LossResults scored = run(p, false);
  ASSERT_EQ(scored.loss(), results.loss());
  ASSERT_TRUE(std::isnan(scored.gradient[0])) << "written without being asked for";
}

TEST_P(DeviceTest, PairLossWithinTheErrorBound) {
  Random random(22);
  for (const double spread : {0.01, 1.0, 10.0, 1000.0, 1e30}) {
    for (const int64_t rows : {40, 300}) {
      for (const int options : {0, +kListed, +kWeights, kListed | kWeights}) {
        expect_accurate(spread, rows, options & kListed ? 1100 : rows / 2, options, random);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// A row's slopes are added in the order of its pairs, whatever the order in which blocks came by: each lane its own, then
// the lanes' tree. Here a sum in another order is another number: 2^60 swallows up to 128 of what is added to it before
// -2^60 is.
TEST_P(DeviceTest, PairLossAddsInTheOrderOfPairs) {
  Random random(25);
  constexpr int32_t rows = 40;
  PairProblem p(rows, 3000);  // all rewards 0: slopes are half the weights
  double lanes[32] = {};
  int entries = 0, large = 0;
  for (int32_t i = 0; i < p.pairs; ++i) {
    const bool of_row = draw(random, 0, 9) == 0, is_large = of_row && large < 100 && draw(random, 0, 1);
    p.chosen.push_back(of_row ? 0 : 1);
    p.rejected.push_back(static_cast<int32_t>(draw(random, 2, rows - 1)));
    p.label.push_back(is_large ? static_cast<float>(large++ % 2) : 1);  // as many of either sign
    p.weight.push_back(is_large ? 0x1p61f : static_cast<float>(draw(random, 1, 200)));
    if (of_row) lanes[entries++ % 32] += (p.label[i] ? -0.5 : 0.5) * p.weight[i];
  }
  ASSERT_EQ(large, 100);
  for (int distance = 16; distance > 0; distance /= 2) {
    for (int lane = 0; lane < distance; ++lane) lanes[lane] += lanes[lane + distance];
  }
  EXPECT_EQ(run(p).gradient[0], static_cast<float>(lanes[0]));
}

// Bad pairs are absent, and said to be there.
TEST_P(DeviceTest, PairLossSkipsBadPairs) {
  Random random(23);
  std::normal_distribution<float> normal;
  for (const int64_t pairs : {40, 1500}) {
    const int32_t rows = 60;
    PairProblem good(rows, pairs);
    for (float& reward : good.rewards) reward = normal(random);
    good.draw_pairs(random);
    for (int64_t i = 0; i < pairs; ++i) good.weight.push_back(1);
    PairProblem bad = good;
    const std::pair<int32_t, int32_t> wrong[] = {{-1, 3}, {4, rows}, {5, 5}, {std::numeric_limits<int32_t>::min(), -7}};
    for (int64_t i = 0; i < pairs; i += 7) {
      good.weight[i] = 0;
      bad.weight[i] = std::numeric_limits<float>::quiet_NaN();
      std::tie(bad.chosen[i], bad.rejected[i]) = wrong[i / 7 % 4];
    }
    const LossResults expected = run(good), results = run(bad);
    EXPECT_EQ(expected.bad_pairs, 0u);
    EXPECT_EQ(results.bad_pairs, 1u);
    EXPECT_EQ(results.loss(), expected.loss());
    for (int32_t row = 0; row < rows; ++row) {
      EXPECT_NEAR(results.gradient[row], expected.gradient[row], 1e-6 * std::abs(expected.gradient[row])) << row;
    }
  }
}

// A NaN stays in its own pairs.
TEST_P(DeviceTest, PairLossKeepsNanInItsPairs) {
  for (const int64_t pairs : {10, 2000}) {
    PairProblem p(2 * pairs, pairs);
    std::fill(p.rewards.begin(), p.rewards.end(), 1.0f);
    p.rewards[6] = std::numeric_limits<float>::quiet_NaN();
    for (const bool listed : {false, true}) {
      for (int32_t i = 0; i < pairs && listed; ++i) {
        p.chosen.push_back(2 * i);
        p.rejected.push_back(2 * i + 1);
      }
      const LossResults results = run(p);
      EXPECT_TRUE(std::isnan(results.loss()));
      for (int64_t row = 0; row < 2 * pairs; ++row) {
        EXPECT_EQ(std::isnan(results.gradient[row]), row / 2 == 3) << row;
        if (row / 2 != 3) {
          EXPECT_EQ(results.gradient[row], row % 2 ? 0.5f : -0.5f) << row;
        }
      }
    }
  }
}

// Each member's loss and gradient are those that it has alone.
void expect_bits_of_members(int64_t rows, int64_t pairs, int64_t members, int options, Random& random) {
  SCOPED_TRACE(::testing::Message() << rows << " rows, " << pairs << " pairs, " << members << " members, options "
                                    << options);
  std::normal_distribution<float> normal;
  PairProblem together(rows, pairs, members);
  for (float& reward : together.rewards) reward = normal(random);
  if (options & kListed) together.draw_pairs(random);
  for (int64_t i = 0; i < pairs; ++i) {
    if (options & kMargins) together.margin.push_back(normal(random));
    if (options & kLabels) together.label.push_back(static_cast<float>(draw(random, 0, 4)) / 4);
  }
  for (int64_t i = 0; i < members * pairs && options & kWeights; ++i) {
    together.weight.push_back(static_cast<float>(draw(random, 0, 5)) / 3);
  }
  const LossResults results = run(together);
  const LossResults scored = run(together, false);
  ASSERT_TRUE(same_bits(scored.losses, results.losses));
  for (int64_t member = 0; member < members; ++member) {
    PairProblem alone = together;
    alone.members = 1;
    alone.rewards = member_part(together.rewards, member, members);
    alone.weight = member_part(together.weight, member, members);
    const LossResults expected = run(alone);
    ASSERT_TRUE(same_bits(member_part(results.losses, member, members), expected.losses)) << member;
    ASSERT_TRUE(same_bits(member_part(results.gradient, member, members), expected.gradient)) << member;
  }
}

// More members than row_segments has blocks, and fewer; one block of pairs and several.
TEST_P(DeviceTest, PairLossOfMembersHasTheBitsOfEachAlone) {
  Random random(26);
  for (const int options : {0, +kListed, +kWeights, kListed | kMargins | kWeights | kLabels}) {
    expect_bits_of_members(options & kListed ? 30 : 80, 40, 3, options, random);
    expect_bits_of_members(options & kListed ? 40 : 2203, 1101, 3, options, random);
    expect_bits_of_members(options & kListed ? 600 : 2100, 1050, 2, options, random);
  }
}

class GeneratedPairs : public GeneratedTest {
 protected:
  // Rows in no pair, or in many; one block and several, short lists and others.
  void draw_case() {
    options = static_cast<int>(draw(random, 0, 15));
    pairs = draw_of({{1, 40}, {250, 260}, {1020, 1030}, {1100, 1400}});
    rows = options & kListed ? draw_of({{2, 40}, {120, 400}}) : 2 * pairs + draw(random, 0, 3);
  }
  int options;
  int64_t pairs, rows;
};
TEST_P(GeneratedPairs, Exact) {
  draw_case();
  expect_exact(rows, pairs, options, random);
}
TEST_P(GeneratedPairs, WithinTheErrorBound) {
  draw_case();
  expect_accurate(std::pow(10.0, static_cast<double>(draw(random, -2, 4))), rows, pairs, options, random);
}
TEST_P(GeneratedPairs, MembersHaveTheBitsOfEachAlone) {
  draw_case();
  expect_bits_of_members(rows, pairs, draw(random, 2, 4), options, random);
}
RH_GENERATE(GeneratedPairs, 100);

}  // namespace
}  // namespace rewardhead::kernels::cuda::testing
