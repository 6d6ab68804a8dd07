// SPDX-License-Identifier: Apache-2.0
//
// AdamW and the sum of squares behind global-norm clipping.
#include <cmath>

#include "kernels/reference/reference.h"
#include "tests/kernels/testing.h"

namespace rewardhead::kernels::testing {
namespace {

constexpr double kRoundoff = 0x1p-24;

struct State {
  explicit State(int64_t count) : parameter(count), gradient(count), first(count), second(count) {}
  AdamwArguments arguments(int64_t step) {
    return {.count = parameter.size(),
            .parameter = parameter.data(),
            .gradient = gradient.data(),
            .first_moment = first.data(),
            .second_moment = second.data(),
            .learning_rate = 1e-3,
            .beta1 = 0.9,
            .beta2 = 0.999,
            .epsilon = 1e-8,
            .weight_decay = 0.01,
            .gradient_scale = 1,
            .step = step};
  }
  State copy() const {
    State to(parameter.size());
    std::copy(parameter.begin(), parameter.end(), to.parameter.begin());
    std::copy(gradient.begin(), gradient.end(), to.gradient.begin());
    std::copy(first.begin(), first.end(), to.first.begin());
    std::copy(second.begin(), second.end(), to.second.begin());
    return to;
  }
  Guarded<float> parameter, gradient, first, second;
};

State random_state(int64_t count, Random& random, double gradient_size) {
  std::normal_distribution<double> normal;
  State state(count);
  for (int64_t i = 0; i < count; ++i) {
    state.parameter[i] = static_cast<float>(normal(random));
    state.gradient[i] = static_cast<float>(gradient_size * normal(random));
    state.first[i] = static_cast<float>(gradient_size * normal(random));
    state.second[i] = static_cast<float>(std::pow(gradient_size * normal(random), 2));
  }
  return state;
}

// One step of the table from `state` against the reference from the same state. m and v have two products and a sum,
// their factors one rounding each; the step adds a division, a square root (which halves v's error) and five products.
// Below the normal range errors are absolute: 2^-148 for m and v, and for the step what that makes of it.
void expect_step(const KernelTable& table, State& state, const AdamwArguments& options, int threads) {
  State reference_state = state.copy();
  State before = state.copy();
  AdamwArguments a = options;
  a.parameter = reference_state.parameter.data();
  a.first_moment = reference_state.first.data();
  a.second_moment = reference_state.second.data();
  reference::adamw(a);
  TestExecutor executor(threads);
  table.adamw(options, executor);
  EXPECT_TRUE(same_bits(state.gradient, before.gradient));
  const double bias1 = 1 - std::pow(a.beta1, static_cast<double>(a.step));
  const double bias2 = 1 - std::pow(a.beta2, static_cast<double>(a.step));
  for (int64_t i = 0; i < a.count; ++i) {
    const double g = a.gradient_scale * before.gradient[i];
    const double m_size = std::abs(a.beta1 * before.first[i]) + std::abs((1 - a.beta1) * g);
    const double v = a.beta2 * before.second[i] + (1 - a.beta2) * g * g;
    const double denominator = std::sqrt(v / bias2) + a.epsilon;
    const double rate = a.learning_rate / bias1 / denominator;
    ASSERT_NEAR(state.first[i], reference_state.first[i], 5 * kRoundoff * m_size + 0x1p-148) << i;
    ASSERT_NEAR(state.second[i], reference_state.second[i], 8 * kRoundoff * v + 0x1p-148) << i;
    const double root_error = std::min(1.0, std::sqrt(0x1p-147 / bias2) / denominator);
    const double bound = 3 * kRoundoff * std::abs(before.parameter[i]) + 20 * kRoundoff * rate * m_size +
                         rate * (0x1p-147 + m_size * root_error) + 0x1p-148;
    ASSERT_NEAR(state.parameter[i], reference_state.parameter[i], bound) << i;
  }
}

class Optimizer : public KernelTest {};

constexpr int64_t kCounts[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 1000, 16383, 16384, 16385, 40000};

TEST_F(Optimizer, StepWithinTheErrorBound) {
  Random random(31);
  for (const int64_t count : kCounts) {
    for (const int64_t step : {1, 2, 10, 1000, 1000000}) {
      SCOPED_TRACE(::testing::Message() << count << " elements, step " << step);
      State state = random_state(count, random, 0.01);
      AdamwArguments options = state.arguments(step);
      options.gradient_scale = step == 2 ? 0.37 : 1;
      options.weight_decay = step == 10 ? 0 : 0.1;
      expect_step(table(), state, options, 1 + static_cast<int>(step % 3));
      if (HasFatalFailure() || HasNonfatalFailure()) return;
    }
  }
}

TEST_F(Optimizer, OtherOptionsAndSizes) {
  Random random(32);
  for (const double size : {1e15, 1.0, 1e-10, 1e-20, 1e-40}) {  // gradients whose squares are subnormal, or they are
    for (int variant = 0; variant < 4; ++variant) {
      SCOPED_TRACE(::testing::Message() << "gradients of " << size << ", variant " << variant);
      State state = random_state(1003, random, size);
      AdamwArguments options = state.arguments(3);
      if (variant == 1) options.beta1 = options.beta2 = 0;
      if (variant == 2) options.learning_rate = 0;
      if (variant == 3) options.epsilon = 1;
      expect_step(table(), state, options, 2);
      if (HasFatalFailure() || HasNonfatalFailure()) return;
    }
  }
}

// Fifty steps from zero moments, each checked from the state the last one left.
TEST_F(Optimizer, ManySteps) {
  Random random(33);
  std::normal_distribution<double> normal;
  State state = random_state(101, random, 0.1);
  std::fill(state.first.begin(), state.first.end(), 0.0f);
  std::fill(state.second.begin(), state.second.end(), 0.0f);
  for (int64_t step = 1; step <= 50; ++step) {
    for (float& g : state.gradient) g = static_cast<float>(0.1 * normal(random));
    expect_step(table(), state, state.arguments(step), 1);
    if (HasFatalFailure() || HasNonfatalFailure()) return;
  }
}

// An element's result depends neither on its place nor on its neighbours, threads or alignment.
TEST_F(Optimizer, EveryElementOnItsOwn) {
  Random random(34);
  const State start = random_state(40000, random, 0.01);
  State whole = start.copy();
  TestExecutor one(1), seven(7, TestExecutor::threaded);
  table().adamw(whole.arguments(5), one);
  State threaded = start.copy();
  table().adamw(threaded.arguments(5), seven);
  EXPECT_TRUE(same_bits(whole.parameter, threaded.parameter));
  EXPECT_TRUE(same_bits(whole.first, threaded.first));
  EXPECT_TRUE(same_bits(whole.second, threaded.second));
  for (const int64_t first : {1, 5, 17, 39990}) {
    State part = start.copy();
    AdamwArguments options = part.arguments(5);
    options.count = std::min<int64_t>(40000 - first, 29);
    options.parameter += first;
    options.gradient += first;
    options.first_moment += first;
    options.second_moment += first;
    table().adamw(options, one);
    for (int64_t i = 0; i < 40000; ++i) {
      const bool inside = i >= first && i < first + options.count;
      ASSERT_EQ(part.parameter[i], (inside ? whole : start).parameter[i]) << i;
      ASSERT_EQ(part.first[i], (inside ? whole : start).first[i]) << i;
      ASSERT_EQ(part.second[i], (inside ? whole : start).second[i]) << i;
    }
  }
}

TEST_F(Optimizer, NanStaysInItsOwnElement) {
  Random random(35);
  State state = random_state(37, random, 0.01);
  state.gradient[20] = std::nanf("");
  TestExecutor executor(1);
  table().adamw(state.arguments(1), executor);
  for (int64_t i = 0; i < 37; ++i) {
    EXPECT_EQ(std::isnan(state.parameter[i]), i == 20);
    EXPECT_EQ(std::isnan(state.first[i]), i == 20);
    EXPECT_EQ(std::isnan(state.second[i]), i == 20);
  }
}

double squares(const KernelTable& table, const Guarded<float>& values, int threads) {
  Workspace workspace = make_workspace(table.sum_of_squares_workspace(values.size()));
  TestExecutor executor(threads);
  return table.sum_of_squares(values.data(), values.size(), executor, workspace.data());
}

TEST_F(Optimizer, SumOfSquares) {
  Random random(36);
  std::normal_distribution<double> normal;
  for (const int64_t count : {0, 1, 2, 3, 5, 7, 8, 15, 16, 17, 33, 4095, 4096, 4097, 8191, 8193, 100003}) {
    Guarded<float> values(count);
    double exact = 0;
    for (float& value : values) {
      value = static_cast<float>(draw(random, -30, 30));
      exact += value * value;
    }
    EXPECT_EQ(squares(table(), values, 3), exact) << count;
    exact = 0;
    for (float& value : values) {
      value = static_cast<float>(normal(random));
      exact += static_cast<double>(value) * value;
    }
    const double sum = squares(table(), values, 1);
    // In fp32 at most 4,096 / 4 = 1,024 squares a lane and the sum of the lanes.
    EXPECT_NEAR(sum, exact, 1030 * kRoundoff * exact) << count;
    for (const int threads : {2, 3, 7}) EXPECT_EQ(squares(table(), values, threads), sum) << count;
  }
}

}  // namespace
}  // namespace rewardhead::kernels::testing
