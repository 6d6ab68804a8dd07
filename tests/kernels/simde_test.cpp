// SPDX-License-Identifier: Apache-2.0
//
// The stand-in for AVX-512: the intrinsics that simde_avx512.h adds to SIMDe against scalar code, and, where the
// processor has AVX-512, the whole kernel table against the native one, bit for bit.
#include "host/runtime/dispatch.h"
#include "tests/kernels/logistic.h"
#include "tests/kernels/problem.h"
#include "tests/kernels/simde_intrinsics.h"

namespace rewardhead::kernels::testing {
namespace {

bool usable(const char* name) {
  for (const runtime::Implementation& row : runtime::implementations()) {
    if (std::string(row.name) == name) return row.usable();
  }
  return false;
}

class Simde : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!usable("avx2")) GTEST_SKIP() << "this processor lacks one of AVX2, FMA, F16C, BMI2";
  }
};

TEST_F(Simde, Conversions) {
  for (uint32_t first = 0; first < 1 << 16; first += 16) {
    uint16_t from[16];
    for (uint32_t i = 0; i < 16; ++i) from[i] = static_cast<uint16_t>(first + i);
    float widened[16];
    uint32_t integers[16];
    simde_widen_half(from, widened);
    simde_widen_unsigned(from, integers);
    for (uint32_t i = 0; i < 16; ++i) {
      const float exact = to_float(Half{from[i]});
      ASSERT_TRUE(widened[i] == exact || (std::isnan(widened[i]) && std::isnan(exact))) << first + i;
      ASSERT_EQ(integers[i], first + i);
    }
  }
}

TEST_F(Simde, Rearrangements) {
  float a[16], b[16], low[8], high[8], shuffled[16];
  for (int i = 0; i < 16; ++i) {
    a[i] = static_cast<float>(i);
    b[i] = static_cast<float>(100 + i);
  }
  simde_halves(a, low, high);
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(low[i], a[i]);
    EXPECT_EQ(high[i], a[8 + i]);
  }
  simde_shuffle_quarters(a, b, shuffled);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(shuffled[i], a[12 + i]);
    EXPECT_EQ(shuffled[4 + i], a[4 + i]);
    EXPECT_EQ(shuffled[8 + i], b[8 + i]);
    EXPECT_EQ(shuffled[12 + i], b[i]);
  }
}

// What is masked out is neither read, up to an inaccessible page, nor written.
TEST_F(Simde, MaskedLoadsAndStores) {
  float from[16];
  for (int i = 0; i < 16; ++i) from[i] = static_cast<float>(1 + i);
  for (int count = 0; count < 16; ++count) {
    Guarded<float> few(count);
    std::copy_n(from, count, few.begin());
    float loaded[16];
    simde_load_masked(few.data(), (1 << count) - 1, loaded);
    simde_store_masked(from, (1 << count) - 1, few.data());
    for (int i = 0; i < 16; ++i) EXPECT_EQ(loaded[i], i < count ? from[i] : 0) << count;
  }
  for (int mask = 0; mask < 1 << 16; mask += 37) {
    float loaded[16], stored[16] = {};
    simde_load_masked(from, mask, loaded);
    simde_store_masked(from, mask, stored);
    for (int i = 0; i < 16; ++i) {
      ASSERT_EQ(loaded[i], mask >> i & 1 ? from[i] : 0);
      ASSERT_EQ(stored[i], loaded[i]);
    }
  }
}

class SimdeAndNative : public Simde {
 protected:
  void SetUp() override {
    if (!usable("avx512")) GTEST_SKIP() << "this processor has no AVX-512 to compare with";
  }
};

TEST_F(SimdeAndNative, SameBitsOfForwardAndBackward) {
  Random random(51);
  std::normal_distribution<double> normal;
  for (const Dtype dtype : kDtypes) {
    for (Sizes sizes : {Sizes{131, 77, 99}, Sizes{20, 200, 250}, Sizes{13, 77, 99}, Sizes{65, 130, 0}}) {
      sizes.dtype = dtype;
      SCOPED_TRACE(::testing::Message() << sizes);
      Problem p(sizes);
      p.fill([&](int64_t, int64_t) { return normal(random); }, [&] { return normal(random); });
      TestExecutor executor(2);
      EXPECT_TRUE(same_bits(run(avx512_simde_table(), p, executor), run(avx512_table(), p, executor)));
    }
  }
}

TEST_F(SimdeAndNative, SameBitsOfLogistic) {
  Random random(52);
  for (int i = 0; i < 100000; ++i) {
    float x[kLogisticValues], simde[4][kLogisticValues], native[4][kLogisticValues];
    for (float& value : x) value = std::bit_cast<float>(static_cast<uint32_t>(random()) & 0xc3ffffff);  // |x| < 512
    logistic_avx512_simde(x, simde);
    logistic_avx512(x, native);
    ASSERT_EQ(std::memcmp(simde, native, sizeof simde), 0) << x[0];
  }
}

}  // namespace
}  // namespace rewardhead::kernels::testing
