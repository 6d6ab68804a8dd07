// SPDX-License-Identifier: Apache-2.0
//
// The linear head on a device: alone, and in one pass over X, which must give the bits of forward, pair loss and
// backward one after another; an ensemble gives the bits of its members.
#include <cmath>

#include "kernels/cuda/launch.h"
#include "tests/cuda/head.h"

namespace rewardhead::kernels::cuda::testing {
namespace {

// Members over the X of the first. dX is of one member only.
using Members = std::vector<const Problem*>;
float* dx_of(const DeviceHead& head, const Members& members) {
  return members.size() == 1 ? head.dx().data() : nullptr;
}

HeadResults run(const Members& members, int64_t offset) {
  const DeviceHead head(members, offset);
  const int64_t count = std::ssize(members);
  Array<unsigned char> workspace(static_cast<int64_t>(linear_workspace(head.sizes.rows, head.sizes.input, count)));
  check(linear_forward({head.x(), 0, head.head(), head.rewards().data(), nullptr, count}, stream()));
  check(linear_backward({head.x(), 0, head.head(), nullptr, head.reward_gradient().data(), head.gradient(),
                         dx_of(head, members), head.dx_stride(), count},
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
  const HeadResults results = run({&p}, offset);
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
  const HeadResults results = run({&p}, 0);
  constexpr double unit = 0x1p-24;
  const double row_chain = static_cast<double>(8 * ceil_divide(sizes.input, 256) + 6);
  const double column_chain = static_cast<double>(8 * ceil_divide(sizes.rows, 8 * 256) + 40);
  expect_tensor("rewards", results.rewards, expected.rewards,
                [&](int64_t i) { return row_chain * unit * magnitude.rewards[i]; });
  expect_tensor("dw", results.gradient[0], expected.gradient.w1,
                [&](int64_t i) { return column_chain * unit * magnitude.gradient.w1[i]; });
  expect_tensor("dx", dense_dx(results.dx, sizes), expected.dx, [&](int64_t i) { return 2 * unit * magnitude.dx[i]; });
  ASSERT_TRUE(same_results(run({&p}, 1), results)) << "depends on alignment, or differs from run to run";
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

// weight [members, pairs]
StepResults step(const Members& members, const std::vector<float>& weight, bool one_pass, int64_t offset) {
  const Sizes& s = members[0]->sizes;
  const int64_t count = std::ssize(members), pairs = std::ssize(weight) / count;
  const DeviceHead head(members, offset);
  Array<float> loss(count), reward_gradient(count * s.rows);
  const Array<float> weights = Array<float>::of(weight);
  Array<unsigned char> workspace(static_cast<int64_t>(linear_step_workspace(s.rows, s.input, pairs, count)));
  const ForwardArguments forward = {head.x(), 0, head.head(), head.rewards().data(), nullptr, count};
  const PairLossArguments pair = {
      head.rewards().data(), s.rows, pairs,       nullptr,     nullptr, nullptr, weights.data(),
      nullptr,               3.0,    loss.data(), reward_gradient.data(), count};
  const BackwardArguments backward = {head.x(), 0, head.head(), nullptr, reward_gradient.data(), head.gradient(),
                                      dx_of(head, members), head.dx_stride(), count};
  if (one_pass) {
    check(linear_step(forward, pair, backward, workspace.data(), stream()));
  } else {
    check(linear_forward(forward, stream()));
    check(pair_loss(pair, nullptr, workspace.data(), stream()));
    check(linear_backward(backward, workspace.data(), stream()));
  }
  return {HeadResults(head), loss.values(), reward_gradient.values()};
}

std::vector<float> draw_weights(int64_t count, Random& random) {
  std::vector<float> weights;
  for (int64_t i = 0; i < count; ++i) weights.push_back(static_cast<float>(draw(random, 0, 5)) / 3);
  return weights;
}

void expect_same_bits(const Sizes& sizes, int64_t pairs, Random& random) {
  SCOPED_TRACE(::testing::Message() << sizes << " pairs " << pairs);
  const Problem p = normal_problem(sizes, random);
  const std::vector<float> weight = draw_weights(pairs, random);
  const StepResults expected = step({&p}, weight, false, 0);
  for (const int64_t offset : {0, 1}) {  // an odd offset goes the way of lists
    const StepResults results = step({&p}, weight, true, offset);
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

// Rows that all lanes of a warp copy and read: in these shared memory's bank conflicts are looked for (CMakeLists.txt).
TEST_P(DeviceTest, LinearStepOfWholeWarps) {
  Random random(46);
  for (const Dtype dtype : kDtypes) {
    for (const int64_t input : {256, 2048, 2560}) expect_same_bits({19, input, 0, dtype}, 9, random);
  }
}

// Each member's results, in one pass and in two, are those that it has alone.
void expect_bits_of_members(const Sizes& sizes, int64_t count, int64_t pairs, int64_t offset, Random& random) {
  SCOPED_TRACE(::testing::Message() << sizes << " members " << count << " pairs " << pairs << " offset " << offset);
  const Ensemble ensemble(sizes, count, random, normal_problem);
  const Members members = ensemble.view();
  const std::vector<float> weight = draw_weights(count * pairs, random);
  const StepResults together[] = {step(members, weight, true, offset), step(members, weight, false, offset)};
  for (int64_t member = 0; member < count; ++member) {
    const StepResults alone = step({members[member]}, member_part(weight, member, count), true, 0);
    for (const StepResults& results : together) {
      const HeadResults own = results.head.member(member, count);
      ASSERT_TRUE(same_bits(own.rewards, alone.head.rewards)) << member;
      ASSERT_TRUE(same_bits(own.gradient[0], alone.head.gradient[0])) << member;
      ASSERT_TRUE(same_bits(member_part(results.loss, member, count), alone.loss)) << member;
      ASSERT_TRUE(same_bits(member_part(results.reward_gradient, member, count), alone.reward_gradient)) << member;
    }
  }
}

TEST_P(DeviceTest, LinearMembersHaveTheBitsOfEachAlone) {
  Random random(45);
  expect_bits_of_members({7, 9, 0, Dtype::f32, 7}, 3, 3, 0, random);
  expect_bits_of_members({300, 260, 0, Dtype::bf16, 4}, 2, 150, 0, random);
  expect_bits_of_members({2100, 40, 0, Dtype::f16}, 3, 1040, 1, random);  // two passes; losses of two blocks
  expect_bits_of_members({18, 2100, 0, Dtype::f32}, 2, 9, 0, random);     // two blocks of columns
}

// More blocks than a grid has are refused, never cut.
TEST_P(DeviceTest, LinearRefusesAGridThatIsTooLarge) {
  const Matrix x = {nullptr, Dtype::f32, int64_t{1} << 30, 8, 8};
  EXPECT_EQ(linear_forward({x, 0, {}, nullptr, nullptr, 1 << 16}, stream()), cudaErrorInvalidConfiguration);
}

// A NaN in X stays in its row's reward and in dX nowhere; the parameters' gradient does not hide it.
TEST_P(DeviceTest, LinearKeepsNanInItsRow) {
  Random random(44);
  Problem p = integer_problem({50, 70, 0, Dtype::bf16}, random);
  p.set_x(20, 33, std::numeric_limits<float>::quiet_NaN());
  const HeadResults results = run({&p}, 0);
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
TEST_P(GeneratedLinear, MembersHaveTheBitsOfEachAlone) {
  Sizes sizes = draw_sizes();
  sizes.rows += 1;  // a pair
  const int64_t members = draw(random, 2, 4), pairs = draw(random, 1, sizes.rows / 2);
  expect_bits_of_members(sizes, members, pairs, draw(random, 0, 1), random);
}
RH_GENERATE(GeneratedLinear, 60);

}  // namespace
}  // namespace rewardhead::kernels::cuda::testing
