// SPDX-License-Identifier: Apache-2.0
//
// cp.async, mbarriers and bulk copies.
#include "tests/simt/hazard_testing.h"

namespace simt::testing {
namespace {

// ---- cp.async

template <bool kWrong>
RH_KERNEL(32, 1) read_before_wait(RH_GRID_CONST const Arguments a) {
  const uint32_t t = ptx::thread_index(), to = ptx::smem_base() + 16 * t;
  ptx::cp_async16(to, a.in + 4 * t, 16);
  ptx::cp_async_commit();
  ptx::cp_async16(to + 512, a.in + 4 * t, 16);
  ptx::cp_async_commit();
  if (kWrong) {
    ptx::cp_async_wait<2>();
  } else {
    ptx::cp_async_wait<1>();
  }
  ptx::stg32f(a.out + t, ptx::lds32f(to));
  ptx::cp_async_wait<0>();
}
TEST_F(Hazards, MissingCpAsyncWait) {
  expect(Hazard::missing_copy_wait, read_before_wait<true>, read_before_wait<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(64, 1) wait_without_barrier(RH_GRID_CONST const Arguments a) {
  const uint32_t t = ptx::thread_index(), shared = ptx::smem_base();
  if (t < 32) ptx::cp_async16(shared + 16 * t, a.in + 4 * t, 16);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  if (!kWrong) ptx::syncthreads();
  if (t >= 32) ptx::stg32f(a.out + t, ptx::lds32f(shared + 16 * (t - 32)));
}
TEST_F(Hazards, OtherThreadsCopyWithoutBarrier) {
  expect({Hazard::shared_race, Hazard::uninitialized_shared, Hazard::missing_copy_wait}, wait_without_barrier<true>,
         wait_without_barrier<false>, one_block(64));
}

template <bool kWrong>
RH_KERNEL(64, 1) slot_reused(RH_GRID_CONST const Arguments a) {
  const uint32_t t = ptx::thread_index(), shared = ptx::smem_base();
  for (int round = 0; round < 2; ++round) {
    if (t < 32) ptx::cp_async16(shared + 16 * t, a.in + 4 * t, 16);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    ptx::syncthreads();
    if (t >= 32) ptx::stg32f(a.out + t, ptx::lds32f(shared + 16 * (t - 32)));
    if (!kWrong) ptx::syncthreads();
  }
}
TEST_F(Hazards, CopyIntoMemoryStillRead) {
  expect({Hazard::copy_race, Hazard::shared_race, Hazard::missing_copy_wait}, slot_reused<true>, slot_reused<false>,
         one_block(64));
}

template <bool kWrong>
RH_KERNEL(32, 1) never_waited(RH_GRID_CONST const Arguments a) {
  const uint32_t t = ptx::thread_index();
  ptx::cp_async16(ptx::smem_base() + 16 * t, a.in + 4 * t, 16);
  ptx::cp_async_commit();
  if (!kWrong) ptx::cp_async_wait<0>();
}
TEST_F(Hazards, CpAsyncNeverWaitedFor) {
  expect(Hazard::unfinished_copy, never_waited<true>, never_waited<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(32, 1) source_misaligned(RH_GRID_CONST const Arguments a) {
  const uint32_t t = ptx::thread_index();
  ptx::cp_async16(ptx::smem_base() + 16 * t, a.in + 4 * t + (kWrong ? 1 : 0), 16);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
}
TEST_F(Hazards, CpAsyncSourceMisaligned) {
  expect(Hazard::misaligned_access, source_misaligned<true>, source_misaligned<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(32, 1) source_past_the_end(RH_GRID_CONST const Arguments a) {
  const uint32_t t = ptx::thread_index();
  const uint32_t valid = t < 31 ? 16 : kWrong ? 4 : 0;  // the last chunk is outside altogether
  ptx::cp_async16(ptx::smem_base() + 16 * t, a.in + 900 + 4 * t, valid);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
}
TEST_F(Hazards, CpAsyncSourceOutOfBounds) {
  expect(Hazard::global_out_of_bounds, source_past_the_end<true>, source_past_the_end<false>, one_block(32));
}

// ---- mbarrier and bulk loads: the barrier lies at 2048, the box at the first multiple of 1024.

constexpr uint32_t kBox = 0x400, kBar = kBox + 2048;

RH_DEVICE void init_barrier(uint32_t arrivals, bool fence = true) {
  if (ptx::thread_index() == 0) {
    ptx::mbar_init(kBar, arrivals);
    if (fence) ptx::fence_mbarrier_init();
  }
  ptx::syncthreads();
}
RH_DEVICE void load_box(const Arguments& a, uint32_t expected = 1024) {
  if (ptx::thread_index() != 0) return;
  ptx::mbar_expect_tx(kBar, expected);
  ptx::tma_load_2d(kBox, &a.map, kBar, 0, 0);
}

template <bool kWrong>
RH_KERNEL(64, 1) bulk_read_before_wait(RH_GRID_CONST const Arguments a) {
  init_barrier(1);
  load_box(a);
  if (!kWrong || ptx::thread_index() < 32) ptx::mbar_wait(kBar, 0);
  ptx::stg32(a.out + ptx::thread_index(), ptx::lds32(kBox + 4 * ptx::thread_index()));
  ptx::mbar_wait(kBar, 0);
}
TEST_F(Hazards, BulkLoadReadBeforeWait) {
  // Before the copy has been issued, memory is uninitialised.
  expect({Hazard::missing_copy_wait, Hazard::uninitialized_shared}, bulk_read_before_wait<true>,
         bulk_read_before_wait<false>, one_block(64));
}

template <bool kWrong>
RH_KERNEL(64, 1) slot_refilled(RH_GRID_CONST const Arguments a) {
  init_barrier(1);
  for (uint32_t phase = 0; phase < 2; ++phase) {
    load_box(a);
    ptx::mbar_wait(kBar, phase);
    ptx::stg32(a.out + ptx::thread_index(), ptx::lds32(kBox + 4 * ptx::thread_index()));
    if (!kWrong) ptx::syncthreads();
  }
}
TEST_F(Hazards, BulkLoadIntoMemoryStillRead) {
  expect({Hazard::copy_race, Hazard::missing_copy_wait}, slot_refilled<true>, slot_refilled<false>, one_block(64));
}

template <bool kWrong>
RH_KERNEL(64, 1) store_then_bulk_load(RH_GRID_CONST const Arguments a) {
  init_barrier(1);
  ptx::sts32(kBox + 4 * ptx::thread_index(), 0);
  if (!kWrong) ptx::fence_proxy_async();
  ptx::syncthreads();
  load_box(a);
  ptx::mbar_wait(kBar, 0);
}
TEST_F(Hazards, MissingProxyFenceBeforeBulkLoad) {
  expect(Hazard::missing_proxy_fence, store_then_bulk_load<true>, store_then_bulk_load<false>, one_block(64));
}

// Fence 0: none; 1: by the writers, before the barrier; 2: by the reader, after it; 3: by the other warp, after it.
template <int kFence>
RH_KERNEL(64, 1) store_then_bulk_store(RH_GRID_CONST const Arguments a) {
  for (uint32_t i = 0; i < 4; ++i) ptx::sts32(kBox + 4 * (ptx::thread_index() + 64 * i), 0x3f803f80);
  if (kFence == 1) ptx::fence_proxy_async();
  ptx::syncthreads();
  if (kFence == 2 && ptx::thread_index() == 0) ptx::fence_proxy_async();
  if (kFence == 3 && ptx::thread_index() >= 32) ptx::fence_proxy_async();
  if (ptx::thread_index() == 0) {
    ptx::tma_store_2d(&a.map, kBox, 0, 0);
    ptx::bulk_commit();
    ptx::bulk_wait<0>();
  }
}
TEST_F(Hazards, MissingProxyFenceBeforeBulkStore) {
  expect(Hazard::missing_proxy_fence, store_then_bulk_store<0>, store_then_bulk_store<1>, one_block(64));
  expect(Hazard::missing_proxy_fence, store_then_bulk_store<3>, store_then_bulk_store<2>, one_block(64));
}

template <bool kWrong>
RH_KERNEL(32, 1) overwritten_while_stored(RH_GRID_CONST const Arguments a) {
  for (uint32_t i = 0; i < 8; ++i) ptx::sts32(kBox + 4 * (ptx::thread_index() + 32 * i), 0x3f803f80);
  ptx::fence_proxy_async();
  ptx::syncwarp();
  if (ptx::thread_index() == 0) {
    ptx::tma_store_2d(&a.map, kBox, 0, 0);
    ptx::bulk_commit();
    if (!kWrong) ptx::bulk_wait_read<0>();
    ptx::sts32(kBox, 0);
    ptx::bulk_wait<0>();
  }
}
TEST_F(Hazards, WriteWhileBulkStoreReads) {
  expect(Hazard::copy_race, overwritten_while_stored<true>, overwritten_while_stored<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(64, 1) two_phases_at_once(RH_GRID_CONST const Arguments) {
  init_barrier(1);
  if (ptx::thread_index() == 32) {
    ptx::mbar_arrive(kBar);
    if (kWrong) ptx::mbar_arrive(kBar);
  }
  ptx::mbar_wait(kBar, 0);
}
TEST_F(Hazards, PhaseMissedByAWaitingThread) {
  expect({Hazard::mbarrier_misuse, Hazard::deadlock}, two_phases_at_once<true>, two_phases_at_once<false>,
         one_block(64));
}

template <bool kWrong>
RH_KERNEL(32, 1) arrivals_with_bytes_due(RH_GRID_CONST const Arguments a) {
  init_barrier(2);
  if (ptx::thread_index() == 0) {
    load_box(a);
    ptx::mbar_arrive(kBar);
    if (kWrong) ptx::mbar_arrive(kBar);
  }
  ptx::mbar_wait(kBar, 0);
}
TEST_F(Hazards, MoreArrivalsThanAPhaseHas) {
  expect(Hazard::mbarrier_misuse, arrivals_with_bytes_due<true>, arrivals_with_bytes_due<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(32, 1) no_init(RH_GRID_CONST const Arguments) {
  if (!kWrong) init_barrier(32);
  ptx::mbar_arrive(kBar);
  ptx::mbar_wait(kBar, 0);
}
TEST_F(Hazards, MbarrierNotInitialised) {
  expect(Hazard::mbarrier_misuse, no_init<true>, no_init<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(32, 1) init_without_fence(RH_GRID_CONST const Arguments a) {
  init_barrier(1, !kWrong);
  load_box(a);
  ptx::mbar_wait(kBar, 0);
}
TEST_F(Hazards, MbarrierInitWithoutFence) {
  expect(Hazard::mbarrier_misuse, init_without_fence<true>, init_without_fence<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(32, 1) store_to_a_barrier(RH_GRID_CONST const Arguments) {
  init_barrier(1);
  if (ptx::thread_index() == 0) ptx::sts32(kBar + (kWrong ? 4 : 8), 0);
}
TEST_F(Hazards, StoreToAnMbarrier) {
  expect(Hazard::mbarrier_misuse, store_to_a_barrier<true>, store_to_a_barrier<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(32, 1) wrong_parity(RH_GRID_CONST const Arguments a) {
  init_barrier(1);
  for (uint32_t phase = 0; phase < 2; ++phase) {
    load_box(a);
    ptx::mbar_wait(kBar, kWrong ? 0 : phase);  // the second time, phase 0 is long over
    ptx::stg32(a.out + ptx::thread_index(), ptx::lds32(kBox + 4 * ptx::thread_index()));
    ptx::syncthreads();
  }
}
TEST_F(Hazards, WaitForTheWrongPhase) {
  expect({Hazard::missing_copy_wait, Hazard::copy_race}, wrong_parity<true>, wrong_parity<false>, one_block(32));
}

template <int kBytes>
RH_KERNEL(32, 1) expects(RH_GRID_CONST const Arguments a) {
  init_barrier(1);
  load_box(a, kBytes);
  ptx::mbar_wait(kBar, 0);
}
TEST_F(Hazards, DeadlockForBytesThatDoNotCome) {
  expect(Hazard::deadlock, expects<1040>, expects<1024>, one_block(32));
  EXPECT_NE(message_.find("16 bytes"), std::string::npos) << message_;
  expect(Hazard::deadlock, expects<1008>, expects<1024>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(32, 1) polls(RH_GRID_CONST const Arguments a) {
  init_barrier(1);
  if (!kWrong) load_box(a);
  while (!ptx::mbar_try_wait(kBar, 0)) {
  }
}
TEST_F(Hazards, DeadlockOfPollingThreads) { expect(Hazard::deadlock, polls<true>, polls<false>, one_block(32)); }

template <bool kWrong>
RH_KERNEL(32, 1) ends_early(RH_GRID_CONST const Arguments a) {
  init_barrier(1);
  load_box(a);
  if (!kWrong) ptx::mbar_wait(kBar, 0);
}
TEST_F(Hazards, BlockEndsWithBulkLoadUnderWay) {
  Launch launch = one_block(32);
  for (const auto& [schedule, seed] : schedules()) {
    launch.schedule = schedule;
    launch.seed = seed;
    EXPECT_EQ(reported(ends_early<false>, launch), "");
    // A random schedule may land it in time, so that only the others are certain.
    if (schedule != Schedule::random) {
      EXPECT_EQ(reported(ends_early<true>, launch), "unfinished-copy");
    }
  }
}

template <bool kWrong>
RH_KERNEL(32, 1) box_misaligned(RH_GRID_CONST const Arguments a) {
  init_barrier(1);
  if (ptx::thread_index() == 0) {
    ptx::mbar_expect_tx(kBar, 1024);
    ptx::tma_load_2d(kBox + (kWrong ? 128 : 0), &a.map, kBar, 0, 0);
  }
  ptx::mbar_wait(kBar, 0);
}
TEST_F(Hazards, BoxNotAlignedToTheSwizzle) {
  expect(Hazard::misaligned_access, box_misaligned<true>, box_misaligned<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(32, 1) not_a_map(RH_GRID_CONST const Arguments a) {
  Arguments other = a;
  if (kWrong) other.map = {};
  init_barrier(1);
  load_box(other);
  ptx::mbar_wait(kBar, 0);
}
TEST_F(Hazards, NotATensorMap) { expect(Hazard::tensor_map, not_a_map<true>, not_a_map<false>, one_block(32)); }

// ---- Clusters

template <bool kWrong>
RH_KERNEL(32, 1) leaves_before_its_peer(RH_GRID_CONST const Arguments) {
  init_barrier(1);
  ptx::cluster_sync();
  if (ptx::cluster_rank() == 0 && ptx::thread_index() == 0) ptx::mbar_arrive_remote(kBar, 1);
  if (!kWrong) ptx::cluster_sync();
}
TEST_F(Hazards, ArrivalAtABlockThatHasEnded) {
  Launch launch = one_block(32);
  launch.blocks = launch.cluster = 2;
  for (const auto& [schedule, seed] : schedules()) {
    launch.schedule = schedule;
    launch.seed = seed;
    EXPECT_EQ(reported(leaves_before_its_peer<false>, launch), "");
  }
  launch.schedule = Schedule::newest_first;
  EXPECT_EQ(reported(leaves_before_its_peer<true>, launch), "exited-block");
}

template <bool kWrong>
RH_KERNEL(32, 1) peer_not_ready(RH_GRID_CONST const Arguments) {
  init_barrier(1);
  if (!kWrong) ptx::cluster_sync();
  if (ptx::thread_index() == 0) ptx::mbar_arrive_remote(kBar, ptx::cluster_rank() ^ 1);
  ptx::mbar_wait(kBar, 0);
  ptx::cluster_sync();
}
TEST_F(Hazards, ArrivalAtABlockThatHasNotBegun) {
  Launch launch = one_block(32);
  launch.blocks = launch.cluster = 2;
  for (const auto& [schedule, seed] : schedules()) {
    launch.schedule = schedule;
    launch.seed = seed;
    EXPECT_EQ(reported(peer_not_ready<false>, launch), "");
    if (schedule != Schedule::random) {
      EXPECT_EQ(reported(peer_not_ready<true>, launch), "mbarrier-misuse");
    }
  }
}

}  // namespace
}  // namespace simt::testing
