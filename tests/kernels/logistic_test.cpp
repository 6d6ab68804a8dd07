// SPDX-License-Identifier: Apache-2.0
//
// softplus and sigmoid: at most 2 ulp for any argument, where an ulp is the distance between the two floats around
// the exact value (2^-149 below the normal range). The C library's double functions are the exact values.
#include "tests/kernels/logistic.h"

#include <cmath>
#include <limits>
#include <numbers>

#include "kernels/reference/reference.h"
#include "tests/kernels/testing.h"

namespace rewardhead::kernels::testing {
namespace {

constexpr const char* kNames[] = {"softplus(x)", "softplus(-x)", "sigmoid(x)", "sigmoid(-x)"};

double ulp(double exact) { return std::ldexp(1.0, std::max(std::ilogb(exact), -126) - 23); }

// The worst of all the arguments that it was given.
class Worst {
 public:
  void add(LogisticFunction function, const float (&x)[kLogisticValues]) {
    float results[4][kLogisticValues];
    function(x, results);
    for (int i = 0; i < kLogisticValues; ++i) {
      const double d = x[i];
      const double e = std::exp(-std::abs(d));
      const double tail = std::log1p(e), large = 1 / (1 + e), small = e / (1 + e);
      const double exact[4] = {std::max(d, 0.0) + tail, std::max(-d, 0.0) + tail, d >= 0 ? large : small,
                               d >= 0 ? small : large};
      for (int f = 0; f < 4; ++f) {
        const float value = results[f][i];
        if (std::isnan(x[i]) || std::isinf(exact[f])) {
          if (std::isnan(x[i]) ? std::isnan(value) : value == exact[f]) continue;
          error[f] = std::numeric_limits<double>::infinity();
          argument[f] = x[i];
          continue;
        }
        const double ulps = std::abs(value - exact[f]) / (exact[f] == 0 ? 0x1p-149 : ulp(exact[f]));
        if (ulps <= error[f]) continue;  // a NaN is worse than anything
        error[f] = ulps;
        argument[f] = x[i];
      }
    }
  }
  void expect_at_most(double bound) const {
    for (int f = 0; f < 4; ++f) {
      std::printf("%s: at most %.3f ulp, at x = %a\n", kNames[f], error[f], argument[f]);
      EXPECT_LE(error[f], bound) << kNames[f] << " at " << argument[f];
    }
  }

 private:
  double error[4] = {};
  double argument[4] = {};
};

class LogisticTest : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    function = logistic_function(under_test().name);
  }
  // Every `stride`-th of all bit patterns.
  Worst over_all_floats(uint64_t stride) const {
    Worst worst;
    float x[kLogisticValues];
    for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += kLogisticValues * stride) {
      for (int i = 0; i < kLogisticValues; ++i) x[i] = std::bit_cast<float>(static_cast<uint32_t>(bits + i * stride));
      worst.add(function, x);
    }
    return worst;
  }
  LogisticFunction function = nullptr;
};

TEST_F(LogisticTest, WithinTwoUlp) { over_all_floats(1021).expect_at_most(2); }

// All floats next to where the code takes another path, and the special values.
TEST_F(LogisticTest, WithinTwoUlpAtBoundaries) {
  Worst worst;
  const float infinity = std::numeric_limits<float>::infinity();
  const float centres[] = {0.0f,
                           0x1p-149f,
                           0x1p-126f,
                           0x1p-24f,
                           std::numbers::ln2_v<float>,
                           0.5f * std::numbers::ln2_v<float>,
                           16.6f,
                           17.0f,
                           87.3f,
                           88.0f,
                           88.7f,
                           100.0f,
                           103.0f,
                           103.28f,
                           103.97f,
                           104.0f,
                           105.0f,
                           0x1p23f,
                           std::numeric_limits<float>::max(),
                           infinity};
  for (const float centre : centres) {
    const uint32_t bits = std::bit_cast<uint32_t>(centre);
    for (int64_t first = -4096; first < 4096; first += kLogisticValues) {
      float x[2][kLogisticValues];
      for (int i = 0; i < kLogisticValues; ++i) {
        x[0][i] = std::bit_cast<float>(static_cast<uint32_t>(bits + first + i));
        x[1][i] = -x[0][i];
      }
      worst.add(function, x[0]);
      worst.add(function, x[1]);
    }
  }
  worst.expect_at_most(2);
}

using SlowLogistic = LogisticTest;
TEST_F(SlowLogistic, WithinTwoUlpForEveryFloat) { over_all_floats(1).expect_at_most(2); }

void logistic_reference(const float* x, float (*results)[kLogisticValues]) {
  for (int i = 0; i < kLogisticValues; ++i) {
    results[0][i] = static_cast<float>(reference::softplus(x[i]));
    results[1][i] = static_cast<float>(reference::softplus(-x[i]));
    results[2][i] = static_cast<float>(reference::sigmoid(x[i]));
    results[3][i] = static_cast<float>(reference::sigmoid(-x[i]));
  }
}

}  // namespace

LogisticFunction logistic_function(const char* isa) {
  const std::string name = isa;
  if (name == "portable") return logistic_portable;
#if REWARDHEAD_X86
  if (name == "avx2") return logistic_avx2;
  if (name == "avx512") return logistic_avx512;
#endif
#if REWARDHEAD_SIMDE
  if (name == "avx512-simde") return logistic_avx512_simde;
#endif
  return logistic_reference;
}

}  // namespace rewardhead::kernels::testing
