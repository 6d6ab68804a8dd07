// SPDX-License-Identifier: Apache-2.0
//
// Small integers: no sum rounds, so every implementation must give exactly what the reference gives. The shapes cover
// every pair of (rows, input), (rows, hidden) and (input, hidden) from lists around one and two tiles, the leading
// dimensions and the threads go round with them, and all buffers end at an inaccessible page (testing.h), at whatever
// alignment of their element that makes.
#include "tests/kernels/problem.h"

namespace rewardhead::kernels::testing {
namespace {

constexpr int64_t kRows[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 47, 63, 64, 65, 127, 128, 129, 193};
constexpr int64_t kInput[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 80, 127, 128, 129, 200};
constexpr int64_t kHidden[] = {1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 63, 64, 65, 95, 96, 97, 127, 128, 191, 192, 193};
constexpr int64_t kCount = std::size(kRows);
static_assert(std::size(kInput) == kCount && std::size(kHidden) == kCount);
constexpr int64_t kGaps[] = {0, 1, 3, 8};
constexpr int kThreads[] = {1, 2, 3, 7};

// X, W1, w2, dr within -2..2, b1 and b2 within -3..3; two columns in three of W1 and every fifth row of X are 0, and
// so is every third b1: z = 0 occurs at one place in ten.
Problem integer_problem(const Sizes& sizes, Random& random) {
  Problem p(sizes);
  p.fill([&](int64_t row, int64_t) { return row % 5 == 2 ? 0.0 : static_cast<double>(draw(random, -2, 2)); },
         [&] { return static_cast<double>(draw(random, -2, 2)); });
  for (float& w : p.head.w1) w = draw(random, 0, 2) ? 0.0f : w;
  for (int64_t h = 0; h < sizes.hidden; h += 3) p.head.b1[h] = 0;
  return p;
}

template <class Actual>
void expect_equal(const char* name, const Actual& actual, const double* expected, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (actual[i] == expected[i]) continue;  // a NaN differs
    FAIL() << name << '[' << i << "] is " << actual[i] << "; expected " << expected[i];
  }
}

void expect_exact(const KernelTable& table, const Problem& p, const Executor& executor) {
  SCOPED_TRACE(::testing::Message() << p.sizes << " threads " << executor.threads);
  const Expected expected(p, nullptr, false);
  const Results results = run(table, p, executor);
  expect_equal("rewards", results.rewards, expected.rewards.data(), p.sizes.rows);
  for (int64_t i = 0; i < results.mask.size(); ++i) ASSERT_EQ(results.mask[i], expected.mask[i]) << "mask " << i;
  const auto expect_tensor = [](const char* name, const Guarded<float>& actual, const Guarded<double>& exact) {
    expect_equal(name, actual, exact.data(), exact.size());
  };
  expect_tensor("dw1", results.gradient.w1, expected.gradient.w1);
  expect_tensor("db1", results.gradient.b1, expected.gradient.b1);
  expect_tensor("dw2", results.gradient.w2, expected.gradient.w2);
  expect_tensor("db2", results.gradient.b2, expected.gradient.b2);
  for (int64_t row = 0; row < p.sizes.rows; ++row) {
    const float* dx = results.dx.data() + row * (p.sizes.input + p.sizes.dx_gap);
    expect_equal("dx", dx, expected.dx.data() + row * p.sizes.input, p.sizes.input);
    for (int64_t gap = 0; gap < p.sizes.dx_gap && row + 1 < p.sizes.rows; ++gap) {
      ASSERT_EQ(std::bit_cast<uint32_t>(dx[p.sizes.input + gap]), ~0u) << "written between the rows of dx";
    }
  }
  if (p.sizes.hidden == 0) return;
  // Scoring alone, without a mask.
  Guarded<float> rewards(p.sizes.rows);
  run_forward(table, p, rewards.data(), nullptr, executor);
  EXPECT_TRUE(same_bits(rewards, results.rewards));
}

class Exact : public KernelTest, public ::testing::WithParamInterface<Dtype> {};

TEST_P(Exact, Mlp) {
  Random random(1);
  for (int64_t i = 0; i < kCount; ++i) {
    for (int64_t j = 0; j < kCount; ++j) {
      const Sizes sizes = {
          kRows[i], kInput[j], kHidden[(i + j) % kCount], GetParam(), kGaps[(i + 2 * j) % 4], kGaps[(3 * i + j) % 4]};
      const Problem p = integer_problem(sizes, random);
      TestExecutor executor(kThreads[(i + j / 4) % 4]);
      expect_exact(table(), p, executor);
      if (HasFatalFailure() || HasNonfatalFailure()) return;
    }
  }
}

TEST_P(Exact, Linear) {
  Random random(2);
  for (int64_t i = 0; i < kCount; ++i) {
    for (int64_t j = 0; j < kCount; ++j) {
      const Sizes sizes = {kRows[i], kInput[j], 0, GetParam(), kGaps[(i + 2 * j) % 4], kGaps[(3 * i + j) % 4]};
      const Problem p = integer_problem(sizes, random);
      TestExecutor executor(kThreads[(i + j) % 4]);
      expect_exact(table(), p, executor);
      if (HasFatalFailure() || HasNonfatalFailure()) return;
    }
  }
}

// Shapes of several tasks a worker: many blocks of rows, chunks of hidden units and chunks of columns.
TEST_P(Exact, Large) {
  Random random(3);
  for (const Sizes& sizes : {Sizes{1052, 384, 256, GetParam()}, Sizes{300, 700, 400, GetParam(), 1, 1},
                             Sizes{5, 1030, 1000, GetParam(), 3, 0}, Sizes{2000, 20, 7, GetParam(), 0, 3}}) {
    TestExecutor executor(3, TestExecutor::threaded);
    expect_exact(table(), integer_problem(sizes, random), executor);
    if (HasFatalFailure() || HasNonfatalFailure()) return;
  }
}

// That the data above does what it is for: z is 0 often, and both signs occur.
TEST_F(KernelTest, IntegerProblemsHaveManyZeros) {
  Random random(4);
  const Problem p = integer_problem({129, 64, 65}, random);
  int64_t zero = 0, positive = 0, negative = 0;
  for (int64_t row = 0; row < 129; ++row) {
    for (int64_t h = 0; h < 65; ++h) {
      double z = p.head.b1[h];
      for (int64_t k = 0; k < 64; ++k) z += p.get_x(row, k) * p.head.w1[h * 64 + k];
      ++(z == 0 ? zero : z > 0 ? positive : negative);
    }
  }
  EXPECT_GT(zero, 129 * 65 / 15);
  EXPECT_GT(positive, 129 * 65 / 4);
  EXPECT_GT(negative, 129 * 65 / 4);
}

INSTANTIATE_TEST_SUITE_P(, Exact, ::testing::ValuesIn(kDtypes),
                         [](const auto& parameter) { return std::string(dtype_name(parameter.param)); });

}  // namespace
}  // namespace rewardhead::kernels::testing
