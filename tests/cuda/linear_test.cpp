// SPDX-License-Identifier: Apache-2.0
//
// The linear head on a device: alone, and in one pass over X, which must give the bits of forward, pair loss and
// backward one after another.
#include <cmath>

#include "kernels/cuda/launch.h"
#include "tests/cuda/head.h"

namespace rewardhead::kernels::cuda::testing {
namespace {

HeadResults run(const Problem& p, int64_t offset) {
  const DeviceHead head({&p}, offset);
  Array<unsigned char> workspace(static_cast<int64_t>(linear_workspace(p.sizes.rows, p.sizes.input)));
  check(linear_forward({head.x(), 0, head.head(), head.rewards().data(), nullptr}, stream()));
  check(linear_backward({head.x(), 0, head.head(), nullptr, head.reward_gradient().data(), head.gradient(),
                         head.dx().data(), head.dx_stride()},
                        workspace.data(), stream()));
  return HeadResults(head);
}

// Rows in one to three chunks; inputs around a lane's eight, a warp's 256 and a block's 2,048 columns.
constexpr int64_t kRows[] = {1, 2, 7, 8, 9, 31, 300, 2050};
constexpr int64_t kInputs[] = {1, 7, 8, 9, 255, 257, 2047, 2056};

void expect_exact(const Sizes& sizes, int64_t offset, Random& random) {
  SCOPED_TRACE(::testing::Message() << sizes << " offset " << offset);
  const Problem p = integer_problem(sizes, random);
  const Expected expected(p, nullptr, false);
  const HeadResults results = run(p, offset);
  expect_exact_tensor("rewards", results.rewards, expected.rewards);
  expect_exact_tensor("dw", results.gradient[0], expected.gradient.w1);
  expect_exact_tensor("dx", dense_dx(results.dx, sizes), expected.dx);
}

TEST_P(DeviceTest, LinearExact) {
  Random random(41);
  int turn = 0;
  for (const int64_t rows : kRows) {
    for (const int64_t input : kInputs) {
      ++turn;
      if (rows * input > 80000) continue;
      const Sizes sizes = {rows, input, 0, kDtypes[turn % 3], turn % 4 * 4 % 7, turn % 5};
      expect_exact(sizes, turn % 2, random);
      if (HasFatalFailure()) return;
    }
  }
}

// K u sum |a||b| with K the longest chain: a lane's share of the row and its tree; a chunk, a slice of chunks and the
// slices.
void expect_accurate(const Sizes& sizes, Random& random) {
  SCOPED_TRACE(::testing::Message() << sizes);
  const Problem p = normal_problem(sizes, random);
  const Expected expected(p, nullptr, false), magnitude(p, nullptr, true);
  const HeadResults results = run(p, 0);
  constexpr double unit = 0x1p-24;
  const double row_chain = static_cast<double>(8 * ceil_divide(sizes.input, 256) + 6);
  const double column_chain = static_cast<double>(8 * ceil_divide(sizes.rows, 8 * 256) + 40);
  expect_tensor("rewards", results.rewards, expected.rewards,
                [&](int64_t i) { return row_chain * unit * magnitude.rewards[i]; });
  expect_tensor("dw", results.gradient[0], expected.gradient.w1,
                [&](int64_t i) { return column_chain * unit * magnitude.gradient.w1[i]; });
  expect_tensor("dx", dense_dx(results.dx, sizes), expected.dx, [&](int64_t i) { return 2 * unit * magnitude.dx[i]; });
  ASSERT_TRUE(same_results(run(p, 1), results)) << "depends on alignment, or differs from run to run";
}

TEST_P(DeviceTest, LinearWithinTheErrorBound) {
  Random random(42);
  for (const Dtype dtype : kDtypes) {
    for (const Sizes& sizes : {Sizes{40, 300, 0, dtype, 4, 1}, Sizes{2100, 24, 0, dtype}}) {
      expect_accurate(sizes, random);
      if (HasFatalFailure()) return;
    }
  }
}

struct StepResults {
  HeadResults head;
  std::vector<float> loss, reward_gradient;
};

StepResults step(const Problem& p, int64_t pairs, const std::vector<float>& weight, bool one_pass, int64_t offset) {
  const Sizes& s = p.sizes;
  const DeviceHead head({&p}, offset);
  Array<float> loss(1), reward_gradient(s.rows);
  const Array<float> weights = Array<float>::of(weight);
  Array<unsigned char> workspace(static_cast<int64_t>(linear_step_workspace(s.rows, s.input, pairs)));
  const ForwardArguments forward = {head.x(), 0, head.head(), head.rewards().data(), nullptr};
  const PairLossArguments pair = {head.rewards().data(), s.rows,         pairs,   nullptr,     nullptr, nullptr,
                                  weights.data(),      nullptr,        3.0,     loss.data(), reward_gradient.data()};
  const BackwardArguments backward = {head.x(), 0, head.head(), nullptr, reward_gradient.data(), head.gradient(),
                                      head.dx().data(), head.dx_stride()};
  if (one_pass) {
    check(linear_step(forward, pair, backward, workspace.data(), stream()));
  } else {
    check(linear_forward(forward, stream()));
    check(pair_loss(pair, nullptr, workspace.data(), stream()));
    check(linear_backward(backward, workspace.data(), stream()));
  }
  return {HeadResults(head), loss.values(), reward_gradient.values()};
}

void expect_same_bits(const Sizes& sizes, int64_t pairs, Random& random) {
  SCOPED_TRACE(::testing::Message() << sizes << " pairs " << pairs);
  const Problem p = normal_problem(sizes, random);
  std::vector<float> weight;
  for (int64_t i = 0; i < pairs; ++i) weight.push_back(static_cast<float>(draw(random, 0, 5)) / 3);
  const StepResults expected = step(p, pairs, weight, false, 0);
  for (const int64_t offset : {0, 1}) {  // an odd offset goes the way of lists
    const StepResults results = step(p, pairs, weight, true, offset);
    ASSERT_TRUE(same_results(results.head, expected.head)) << offset;
    ASSERT_TRUE(same_bits(results.loss, expected.loss)) << offset;
    ASSERT_TRUE(same_bits(results.reward_gradient, expected.reward_gradient)) << offset;
  }
}

// Groups of 8, 4 and 2 rows, and rows too long for one pass.
TEST_P(DeviceTest, LinearStepHasTheBitsOfOneAfterAnother) {
  Random random(43);
  int turn = 0;
  for (const Sizes& shape : {Sizes{2, 8, 0}, Sizes{3, 1, 0}, Sizes{17, 257, 0}, Sizes{2051, 9, 0}, Sizes{12, 2500, 0},
                             Sizes{10, 5000, 0}, Sizes{6, 8500, 0}}) {
    for (const Dtype dtype : kDtypes) {
      ++turn;
      Sizes sizes = shape;
      sizes.dtype = dtype;
      sizes.x_gap = (8 - sizes.input % 8) % 8 + turn % 2 * 8;
      sizes.dx_gap = turn % 3;
      const int64_t pairs = std::max<int64_t>(1, sizes.rows / 2 - turn % 2 * 3);
      expect_same_bits(sizes, pairs, random);
      if (HasFatalFailure()) return;
    }
  }
}

// A NaN in X stays in its row's reward and in dX nowhere; the parameters' gradient does not hide it.
TEST_P(DeviceTest, LinearKeepsNanInItsRow) {
  Random random(44);
  Problem p = integer_problem({50, 70, 0, Dtype::bf16}, random);
  p.set_x(20, 33, std::numeric_limits<float>::quiet_NaN());
  const HeadResults results = run(p, 0);
  for (int64_t row = 0; row < 50; ++row) EXPECT_EQ(std::isnan(results.rewards[row]), row == 20);
  for (int64_t k = 0; k < 70; ++k) EXPECT_EQ(std::isnan(results.gradient[0][k]), k == 33);
  for (const float dx : results.dx) EXPECT_FALSE(std::isnan(dx));
}

class GeneratedLinear : public GeneratedTest {
 protected:
  Sizes draw_sizes() {
    Sizes s = {draw_of({{1, 40}, {120, 300}}), draw_of({{1, 40}, {240, 270}}), 0, kDtypes[draw(random, 0, 2)]};
    s.x_gap = one_in(2) ? (8 - s.input % 8) % 8 : draw(random, 0, 9);
    s.dx_gap = draw(random, 0, 3);
    return s;
  }
};
TEST_P(GeneratedLinear, Exact) {
  const Sizes sizes = draw_sizes();
  expect_exact(sizes, draw(random, 0, 3), random);
}
TEST_P(GeneratedLinear, WithinTheErrorBound) {
  const Sizes sizes = draw_sizes();
  expect_accurate(sizes, random);
}
TEST_P(GeneratedLinear, StepHasTheBitsOfOneAfterAnother) {
  Sizes sizes = draw_sizes();
  sizes.rows += 1;  // a pair
  expect_same_bits(sizes, draw(random, 1, sizes.rows / 2), random);
}
RH_GENERATE(GeneratedLinear, 60);

}  // namespace
}  // namespace rewardhead::kernels::cuda::testing
