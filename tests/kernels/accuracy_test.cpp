// SPDX-License-Identifier: Apache-2.0
//
// Random data against fp64, element by element. The bound is the textbook one for sums of K rounded products in any
// order, K u sum |a||b| with u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1, to first
// order in K u): c = 1, and K counts the longest chain of roundings that any implementation may have:
//   rewards  input + 1 for z, hidden + chunks for the sum over hidden units, its products, b2   input + hidden + 16
//   dW1 db1 db2   a sum over rows, one product before it and one after                          rows + 4
//   dw2      G, then a sum over input and b1 g                                                  rows + input + 8
//   dX       a sum over hidden units, two products                                              hidden + 4
// The backward is compared under the kernel's own mask: where z is within rounding of 0, either bit is right.
#include <cmath>

#include "tests/kernels/lcg.h"
#include "tests/kernels/problem.h"
#include "tests/kernels/torch_figures.h"

namespace rewardhead::kernels::testing {
namespace {

constexpr double kRoundoff = 0x1p-24;

enum class Distribution { normal, uniform, student, lognormal };

double sample(Distribution distribution, Random& random) {
  std::normal_distribution<double> normal;
  switch (distribution) {
    case Distribution::normal:
      return normal(random);
    case Distribution::uniform:
      return std::uniform_real_distribution<double>(-1, 1)(random);
    case Distribution::student:  // two degrees of freedom: infinite variance; kept within fp16
      return std::clamp(normal(random) / std::sqrt(std::exponential_distribution<double>()(random)), -6e4, 6e4);
    default:
      return std::exp(2 * normal(random)) * (random() & 1 ? 1 : -1);
  }
}

template <class Actual>
void expect_within(const char* name, const Actual& actual, const double* exact, const double* magnitude, int64_t count,
                   double chain) {
  for (int64_t i = 0; i < count; ++i) {
    const double bound = chain * kRoundoff * magnitude[i] + 0x1p-140;  // and the subnormals' absolute errors
    if (std::abs(actual[i] - exact[i]) <= bound) continue;
    FAIL() << name << '[' << i << "] is " << actual[i] << "; expected " << exact[i] << " within " << bound;
  }
}

void expect_accurate(const KernelTable& table, const Problem& p) {
  const auto [rows, input, hidden, dtype, x_gap, dx_gap] = p.sizes;
  TestExecutor executor(3);
  const Results results = run(table, p, executor);
  const Expected exact(p, results.mask.data(), false);
  const Expected magnitude(p, results.mask.data(), true);
  const auto within = [](const char* name, const auto& actual, const auto& expected, const auto& scale, int64_t chain) {
    expect_within(name, actual, &*expected.begin(), &*scale.begin(), std::ssize(expected), static_cast<double>(chain));
  };
  within("rewards", results.rewards, exact.rewards, magnitude.rewards, input + hidden + 16);
  within("dw1", results.gradient.w1, exact.gradient.w1, magnitude.gradient.w1, rows + 4);
  within("db1", results.gradient.b1, exact.gradient.b1, magnitude.gradient.b1, rows + 4);
  within("dw2", results.gradient.w2, exact.gradient.w2, magnitude.gradient.w2, rows + input + 8);
  within("db2", results.gradient.b2, exact.gradient.b2, magnitude.gradient.b2, rows + 4);
  within("dx", results.dx, exact.dx, magnitude.dx, hidden + 4);

  // A bit of the mask may differ from the exact one only where |z| is within its own error bound.
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t h = 0; h < hidden; ++h) {
      double z = p.head.b1[h], scale = std::abs(z);
      for (int64_t k = 0; k < input; ++k) {
        const double product = static_cast<double>(p.get_x(row, k)) * p.head.w1[h * input + k];
        z += product;
        scale += std::abs(product);
      }
      if (std::abs(z) <= static_cast<double>(input + 2) * kRoundoff * scale) continue;
      ASSERT_EQ(reference::is_active(results.mask.data(), hidden, row, h), z > 0) << "row " << row << " unit " << h;
    }
  }
}

using Parameters = std::tuple<Distribution, Dtype>;
class Accuracy : public KernelTest, public ::testing::WithParamInterface<Parameters> {};

TEST_P(Accuracy, WithinTheErrorBound) {
  const Distribution distribution = std::get<Distribution>(GetParam());
  const Dtype dtype = std::get<Dtype>(GetParam());
  Random random(11);
  for (const Sizes& sizes : {Sizes{129, 200, 97, dtype}, Sizes{70, 33, 200, dtype}, Sizes{300, 768, 20, dtype},
                             Sizes{3, 900, 61, dtype}, Sizes{130, 300, 0, dtype}, Sizes{1000, 5, 0, dtype}}) {
    SCOPED_TRACE(::testing::Message() << sizes);
    Problem p(sizes);
    p.fill([&](int64_t, int64_t) { return sample(distribution, random); },
           [&] { return sample(distribution, random); });
    expect_accurate(table(), p);
    if (HasFatalFailure() || HasNonfatalFailure()) return;
  }
}

std::string name_of(const ::testing::TestParamInfo<Parameters>& info) {
  static constexpr const char* names[] = {"normal", "uniform", "student", "lognormal"};
  const auto [distribution, dtype] = info.param;
  return std::string(names[static_cast<int>(distribution)]) + "_" + dtype_name(dtype);
}

INSTANTIATE_TEST_SUITE_P(, Accuracy,
                         ::testing::Combine(::testing::Values(Distribution::normal, Distribution::uniform,
                                                              Distribution::student, Distribution::lognormal),
                                            ::testing::ValuesIn(kDtypes)),
                         name_of);

// At most twice the error that PyTorch's float32 has on the same data (torch_figures.h has its origin).
TEST_F(KernelTest, ErrorAtMostTwicePyTorch) {
  for (const torch_figures::Errors& figure : torch_figures::kErrors) {
    SCOPED_TRACE(::testing::Message() << "rows " << figure.rows << " input " << figure.input);
    Problem p({figure.rows, figure.input, figure.hidden});
    Lcg lcg(figure.seed);
    p.fill([&](int64_t, int64_t) { return lcg(); }, lcg);
    TestExecutor executor(2);
    const Results results = run(table(), p, executor);
    const Expected exact(p, nullptr, false);
    const auto expect = [](const char* name, const auto& actual, const auto& expected, double torch) {
      double difference = 0, norm = 0;
      for (int64_t i = 0; i < std::ssize(expected); ++i) {
        difference += std::pow(actual[i] - *(expected.begin() + i), 2);
        norm += std::pow(*(expected.begin() + i), 2);
      }
      const double error = std::sqrt(difference / norm);
      std::printf("%-8s %.3e, PyTorch's float32 %.3e\n", name, error, torch);
      EXPECT_LE(error, 2 * torch) << name;
    };
    expect("rewards", results.rewards, exact.rewards, figure.error.rewards);
    expect("dw1", results.gradient.w1, exact.gradient.w1, figure.error.dw1);
    expect("dx", results.dx, exact.dx, figure.error.dx);
    if (figure.hidden == 0) continue;
    expect("db1", results.gradient.b1, exact.gradient.b1, figure.error.db1);
    expect("dw2", results.gradient.w2, exact.gradient.w2, figure.error.dw2);
  }
}

}  // namespace
}  // namespace rewardhead::kernels::testing
