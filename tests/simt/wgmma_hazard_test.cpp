// SPDX-License-Identifier: Apache-2.0
//
// wgmma: one warpgroup multiplies 64 rows of ones by 64 rows of ones, 64 long.
#include "tests/simt/hazard_testing.h"

namespace simt::testing {
namespace {

enum class Mistake {
  none,
  reads_before_wait,
  writes_before_wait,
  waits_too_short,
  no_wait,
  no_wgmma_fence,
  fragment_rewritten,
  no_bulk_wait,
  no_proxy_fence,
  slot_refilled,
  swizzle_missing,
  stride,
  uninitialized,
  out_of_bounds,
  only_one_warp,
};

constexpr uint32_t kA = 0x400, kB = kA + 8192, kBar = kB + 8192, kShared = 3 * 8192;

// Fills both operands, by a bulk load or by the threads' own stores.
RH_DEVICE void fill(const Arguments& a, Mistake m, bool bulk) {
  const uint32_t t = ptx::thread_index();
  if (t == 0) {
    ptx::mbar_init(kBar, 1);
    ptx::fence_mbarrier_init();
  }
  ptx::syncthreads();
  if (!bulk) {
    for (uint32_t i = t; i < 4096; i += 128) {
      if (m != Mistake::uninitialized || i != 1234) ptx::sts32(kA + 4 * i, 0x3f803f80);
    }
    if (m != Mistake::no_proxy_fence) ptx::fence_proxy_async();
    ptx::syncthreads();
    return;
  }
  if (t == 0) {
    ptx::mbar_expect_tx(kBar, 16384);
    for (int row = 0; row < 64; row += 8) {
      ptx::tma_load_2d(kA + row * 128, &a.map, kBar, 0, row);
      ptx::tma_load_2d(kB + row * 128, &a.map, kBar, 0, row);
    }
  }
  if (m != Mistake::no_bulk_wait) ptx::mbar_wait(kBar, 0);
}

template <Mistake kMistake>
RH_KERNEL(128, 1) multiply(RH_GRID_CONST const Arguments a) {
  constexpr bool kBulk = kMistake != Mistake::no_proxy_fence && kMistake != Mistake::uninitialized;
  fill(a, kMistake, kBulk);
  float d[32] = {};
  uint32_t fragment[4] = {0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80};
  uint64_t desc_a = ptx::smem_desc_sw128(kA, 16, kMistake == Mistake::stride ? 512 : 1024);
  const uint64_t desc_b = ptx::smem_desc_sw128(kMistake == Mistake::out_of_bounds ? kB + 16384 : kB, 16, 1024);
  if (kMistake == Mistake::swizzle_missing) desc_a &= ~(uint64_t{1} << 62);
  if (kMistake != Mistake::no_wgmma_fence) ptx::wgmma_fence();
  for (int k = 0; k < 4; ++k) {
    if (kMistake == Mistake::only_one_warp && k == 3 && ptx::thread_index() >= 32) continue;
    ptx::wgmma_m64n64k16_ss<ptx::Input::bf16, 0, 0>(d, desc_a + 2 * k, desc_b + 2 * k);
  }
  ptx::wgmma_m64n64k16_rs<ptx::Input::bf16, 0>(d, fragment, desc_b);
  ptx::wgmma_commit();
  if (kMistake == Mistake::fragment_rewritten) fragment[2] = 0;
  if (kMistake == Mistake::writes_before_wait) d[5] = 0;
  if (kMistake == Mistake::reads_before_wait) ptx::stg32f(a.out + ptx::thread_index(), d[0] + d[31]);
  if (kMistake == Mistake::slot_refilled && ptx::thread_index() == 0) {
    ptx::mbar_expect_tx(kBar, 1024);
    ptx::tma_load_2d(kB, &a.map, kBar, 0, 0);
  }
  if (kMistake == Mistake::waits_too_short) {
    ptx::wgmma_wait<1>();
  } else if (kMistake != Mistake::no_wait) {
    ptx::wgmma_wait<0>();
  }
  if (kMistake != Mistake::no_wait) ptx::stg32f(a.out + ptx::thread_index(), d[0] + d[31]);
  ptx::wgmma_wait<kMistake == Mistake::no_wait ? 1 : 0>();
}

class Wgmma : public Hazards {
 protected:
  template <Mistake kMistake>
  void expect_report(Hazard hazard) {
    expect(hazard, multiply<kMistake>, multiply<Mistake::none>, one_block(128, kShared));
  }
};

TEST_F(Wgmma, AccumulatorReadBeforeWait) { expect_report<Mistake::reads_before_wait>(Hazard::wgmma_in_flight); }
TEST_F(Wgmma, AccumulatorReadAfterAWaitForAnotherGroup) {
  expect_report<Mistake::waits_too_short>(Hazard::wgmma_in_flight);
}
TEST_F(Wgmma, AccumulatorWrittenBeforeWait) { expect_report<Mistake::writes_before_wait>(Hazard::wgmma_in_flight); }
TEST_F(Wgmma, FragmentRewrittenBeforeWait) { expect_report<Mistake::fragment_rewritten>(Hazard::wgmma_in_flight); }
TEST_F(Wgmma, NeverWaitedFor) { expect_report<Mistake::no_wait>(Hazard::unfinished_copy); }
TEST_F(Wgmma, MissingFence) { expect_report<Mistake::no_wgmma_fence>(Hazard::missing_wgmma_fence); }
TEST_F(Wgmma, OperandNotWaitedFor) {
  Launch launch = one_block(128, kShared);
  launch.schedule = Schedule::oldest_first;
  EXPECT_EQ(reported(multiply<Mistake::no_bulk_wait>, launch), "missing-copy-wait");
  launch.schedule = Schedule::newest_first;  // thread 127 is the last to reach the first collective, after the issue
  EXPECT_EQ(reported(multiply<Mistake::no_bulk_wait>, launch), "missing-copy-wait");
}
TEST_F(Wgmma, OperandStoredWithoutProxyFence) { expect_report<Mistake::no_proxy_fence>(Hazard::missing_proxy_fence); }
TEST_F(Wgmma, OperandOverwrittenByACopy) { expect_report<Mistake::slot_refilled>(Hazard::copy_race); }
TEST_F(Wgmma, OperandUninitialised) { expect_report<Mistake::uninitialized>(Hazard::uninitialized_shared); }
TEST_F(Wgmma, OperandOutOfBounds) { expect_report<Mistake::out_of_bounds>(Hazard::shared_out_of_bounds); }
TEST_F(Wgmma, DescriptorWithoutSwizzle) { expect_report<Mistake::swizzle_missing>(Hazard::wgmma_descriptor); }
TEST_F(Wgmma, DescriptorWithAWrongStride) { expect_report<Mistake::stride>(Hazard::wgmma_descriptor); }
TEST_F(Wgmma, NotByTheWholeWarpgroup) { expect_report<Mistake::only_one_warp>(Hazard::divergent_collective); }

}  // namespace
}  // namespace simt::testing
