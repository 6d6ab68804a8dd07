// SPDX-License-Identifier: Apache-2.0
//
// Small integers: no sum rounds, so every implementation must give exactly what the reference gives. The shapes cover
// every pair of (rows, input), (rows, hidden) and (input, hidden) from lists around one and two tiles, the leading
// dimensions and the threads go round with them, and all buffers end at an inaccessible page (testing.h), at whatever
// alignment of their element that makes.
#include <cmath>
#include <limits>

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

// X, parameters and dr within -2..2; two in three of W1 and of b1 and every fifth row of X are 0:
// z = 0 occurs at one place in ten. `scale` multiplies what is linear in the inputs.
Problem integer_problem(const Sizes& sizes, Random& random, double scale = 1) {
  Problem p(sizes);
  p.fill([&](int64_t row, int64_t) { return row % 5 == 2 ? 0 : scale * static_cast<double>(draw(random, -2, 2)); },
         [&] { return static_cast<double>(draw(random, -2, 2)); });
  for (float& w : p.head.w1) w = draw(random, 0, 2) ? 0.0f : w;
  for (float& b : p.head.b1) b = draw(random, 0, 2) ? b * static_cast<float>(scale) : 0.0f;
  for (float& b : p.head.b2) b *= static_cast<float>(scale);
  return p;
}

template <class Actual>
void expect_equal(const char* name, const Actual& actual, const double* expected, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (actual[i] == expected[i] || (std::isnan(actual[i]) && std::isnan(expected[i]))) continue;
    FAIL() << name << '[' << i << "] is " << actual[i] << "; expected " << expected[i];
  }
}

// The definitions of IEEE 754 binary16 and of bfloat16, by their fields.
double stored_value(Dtype dtype, uint16_t bits) {
  const int fraction_bits = dtype == Dtype::f16 ? 10 : 7;
  const int bias = dtype == Dtype::f16 ? 15 : 127;
  const int exponent = (bits & 0x7fff) >> fraction_bits;
  const int fraction = bits & ((1 << fraction_bits) - 1);
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == 2 * bias + 1) return fraction ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  const double significand = fraction + (exponent ? 1 << fraction_bits : 0);
  return sign * std::ldexp(significand, std::max(exponent, 1) - bias - fraction_bits);
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
  if (results.activations.size() && std::string_view(table.name) != "reference") {  // which does without
    expect_equal("dw2", results.gradient.w2, expected.w2_by_activations.data(), p.sizes.hidden);
  } else {
    expect_tensor("dw2", results.gradient.w2, expected.gradient.w2);
  }
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
                             Sizes{5, 1030, 1000, GetParam(), 3, 0}, Sizes{2000, 20, 7, GetParam(), 0, 3},
                             // Activations are kept, of several blocks of rows.
                             Sizes{70, 450, 61, GetParam()}, Sizes{200, 1210, 50, GetParam(), 1, 0},
                             // Few rows with more columns than fit one chain in each lane.
                             Sizes{3, 6500, 13, GetParam()},
                             // Rows that lie whole pages apart, which some kernels take otherwise.
                             Sizes{1, 1024, 100, GetParam()}, Sizes{34, 1536, 61, GetParam()},
                             Sizes{71, 2048, 0, GetParam()}, Sizes{45, 1024, 0, GetParam(), 8}}) {
    TestExecutor executor(3, TestExecutor::threaded);
    expect_exact(table(), integer_problem(sizes, random), executor);
    if (HasFatalFailure() || HasNonfatalFailure()) return;
  }
}

// The same at both ends of the exponents: nothing is flushed to zero, nothing overflows early.
TEST_P(Exact, SubnormalAndHuge) {
  const double largest[] = {0x1p100, 0x1p14, 0x1p100};
  const double smallest[] = {0x1p-149, 0x1p-24, 0x1p-133};
  Random random(5);
  for (const double scale : {largest[static_cast<int>(GetParam())], smallest[static_cast<int>(GetParam())]}) {
    for (const Sizes& sizes : {Sizes{67, 37, 19, GetParam(), 1, 1}, Sizes{67, 77, 0, GetParam(), 1, 1},
                               Sizes{3, 37, 19, GetParam(), 1, 1}}) {
      SCOPED_TRACE(scale);
      TestExecutor executor(2);
      Problem p = integer_problem(sizes, random, scale);
      expect_exact(table(), p, executor);
      Problem q = integer_problem(sizes, random);
      for (float& dr : q.reward_gradient) dr *= scale > 1 ? 0x1p100f : 0x1p-149f;
      expect_exact(table(), q, executor);
    }
  }
}

// One element, or all, of a row of X, of the parameters or of dr becomes NaN or infinite. The reference says what
// must: a NaN in X or dr stays in its own row of rewards, mask and dX, and infinities act as in IEEE arithmetic.
TEST_P(Exact, NanAndInfinity) {
  const float infinity = std::numeric_limits<float>::infinity();
  Random random(6);
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), infinity, -infinity}) {
    for (const Sizes& sizes : {Sizes{70, 37, 19, GetParam(), 1, 1}, Sizes{70, 77, 0, GetParam(), 1, 1},
                               Sizes{4, 37, 19, GetParam(), 1, 1}}) {
      TestExecutor executor(2);
      for (int64_t row : {0, 3, 63, 64, 69}) {
        if (row >= sizes.rows) continue;
        SCOPED_TRACE(::testing::Message() << value << " in row " << row);
        Problem p = integer_problem(sizes, random);
        p.set_x(row, draw(random, 0, sizes.input - 1), value);
        expect_exact(table(), p, executor);
        for (int64_t k = 0; k < sizes.input; ++k) p.set_x(row, k, value);
        expect_exact(table(), p, executor);
        Problem q = integer_problem(sizes, random);
        q.reward_gradient[row] = value;
        expect_exact(table(), q, executor);
        const int64_t unit = row % std::max<int64_t>(sizes.hidden, 1);
        for (Guarded<float>* tensor : {&q.head.w1, &q.head.b1, &q.head.w2}) {
          if (tensor->size() <= unit) continue;
          const float before = std::exchange((*tensor)[unit], value);
          expect_exact(table(), q, executor);
          (*tensor)[unit] = before;
        }
      }
    }
  }
}

// Every value of the 16-bit types, through the vector and the partial loads of both heads.
class Storage : public Exact {};

TEST_P(Storage, EveryValue) {
  constexpr int64_t kValues = 1 << 16;
  for (const int64_t hidden : {0, 1}) {
    for (const int64_t input : {1, 64}) {
      const Sizes sizes = {kValues / input, input, hidden, GetParam()};
      Problem p(sizes);
      // Column k counts alone in pass k.
      for (int64_t k = 0; k < input; k += 7) {
        for (int64_t i = 0; i < kValues; ++i) {
          const uint16_t bits = static_cast<uint16_t>(i / input + (i % input == k ? k * (kValues / input) : 0));
          const uint16_t stored = i % input == k ? bits : 0;
          std::memcpy(p.x.data() + 2 * i, &stored, 2);
        }
        std::fill(p.head.w1.begin(), p.head.w1.end(), 0.0f);
        p.head.w1[k] = 1;
        std::fill(p.head.b1.begin(), p.head.b1.end(), 0.0f);
        std::fill(p.head.w2.begin(), p.head.w2.end(), 1.0f);
        std::fill(p.head.b2.begin(), p.head.b2.end(), 0.0f);
        Results results(sizes);
        TestExecutor executor(2);
        run_forward(table(), p, results.rewards.data(), results.mask.data(), executor);
        for (int64_t row = 0; row < sizes.rows; ++row) {
          const double exact = stored_value(GetParam(), static_cast<uint16_t>(row + k * sizes.rows));
          const double expected = hidden && exact <= 0 ? 0 : exact;
          if (results.rewards[row] == expected || (std::isnan(results.rewards[row]) && std::isnan(expected))) continue;
          FAIL() << "row " << row << " column " << k << ": " << results.rewards[row] << "; expected " << expected;
        }
      }
    }
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

std::string name_of(const ::testing::TestParamInfo<Dtype>& info) { return dtype_name(info.param); }
INSTANTIATE_TEST_SUITE_P(, Exact, ::testing::ValuesIn(kDtypes), name_of);
INSTANTIATE_TEST_SUITE_P(, Storage, ::testing::Values(Dtype::f16, Dtype::bf16), name_of);

}  // namespace
}  // namespace rewardhead::kernels::testing
