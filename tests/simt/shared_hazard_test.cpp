// SPDX-License-Identifier: Apache-2.0
//
// Shared memory accessed by threads, barriers, and collectives.
#include "tests/simt/hazard_testing.h"

namespace simt::testing {
namespace {

template <bool kWrong>
RH_KERNEL(64, 1) read_by_another_warp(RH_GRID_CONST const Arguments a) {
  const uint32_t t = ptx::thread_index(), shared = ptx::smem_base();
  ptx::sts32f(shared + 4 * t, 1);
  ptx::syncthreads();
  ptx::sts32f(shared + 4 * t, 2);
  if (!kWrong) ptx::syncthreads();
  ptx::stg32f(a.out + t, ptx::lds32f(shared + 4 * (t ^ 32)));
}
TEST_F(Hazards, SharedReadNotOrderedAfterAnotherWarpsWrite) {
  expect(Hazard::shared_race, read_by_another_warp<true>, read_by_another_warp<false>, one_block(64));
}

template <bool kWrong>
RH_KERNEL(64, 1) overwritten_while_read(RH_GRID_CONST const Arguments a) {
  const uint32_t t = ptx::thread_index(), shared = ptx::smem_base();
  ptx::sts32f(shared + 4 * t, 1);
  ptx::syncthreads();
  const float other = ptx::lds32f(shared + 4 * (t ^ 32));
  if (!kWrong) ptx::syncthreads();
  ptx::sts32f(shared + 4 * t, other + 1);
  ptx::stg32f(a.out + t, other);
}
TEST_F(Hazards, SharedWriteNotOrderedAfterAnotherWarpsRead) {
  expect(Hazard::shared_race, overwritten_while_read<true>, overwritten_while_read<false>, one_block(64));
}

// A message names thread and address; both depend on what ran when.
TEST_F(Hazards, ScheduleAndSeedRepeatARun) {
  std::set<std::string> different;
  for (uint64_t seed = 0; seed < 16; ++seed) {
    Launch launch = one_block(64);
    launch.seed = seed;
    EXPECT_EQ(reported(overwritten_while_read<true>, launch), "shared-race");
    const std::string first = message_;
    EXPECT_EQ(reported(overwritten_while_read<true>, launch), "shared-race");
    EXPECT_EQ(message_, first);
    different.insert(first);
  }
  EXPECT_GT(different.size(), 1u);
}

template <bool kWrong>
RH_KERNEL(64, 1) both_write(RH_GRID_CONST const Arguments) {
  const uint32_t t = ptx::thread_index();
  ptx::sts32f(ptx::smem_base() + 4 * (kWrong ? t % 32 : t), 1);
}
TEST_F(Hazards, SharedWritesOfTwoWarps) {
  expect(Hazard::shared_race, both_write<true>, both_write<false>, one_block(64));
}

template <bool kWrong>
RH_KERNEL(32, 1) lanes_without_syncwarp(RH_GRID_CONST const Arguments a) {
  const uint32_t t = ptx::thread_index(), shared = ptx::smem_base();
  ptx::sts32f(shared + 4 * t, 1);
  ptx::sts32f(shared + 256 + 4 * t, 1);
  ptx::syncwarp();
  ptx::sts32f(shared + 4 * t, 2);
  if (!kWrong) ptx::syncwarp();
  ptx::stg32f(a.out + t, ptx::lds32f(shared + 4 * (t ^ 1)));
}
TEST_F(Hazards, LanesOfAWarpWithoutSyncwarp) {
  expect(Hazard::shared_race, lanes_without_syncwarp<true>, lanes_without_syncwarp<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(96, 1) barrier_of_others(RH_GRID_CONST const Arguments a) {
  const uint32_t t = ptx::thread_index(), shared = ptx::smem_base();
  if (t < 32) ptx::sts32f(shared + 4 * t, 1);
  if (t < 32) ptx::named_barrier(1, 64);
  if (t >= 32 && t < 64) ptx::named_barrier(1, 64);
  if (!kWrong) ptx::syncthreads();
  if (t >= 64) ptx::stg32f(a.out + t, ptx::lds32f(shared + 4 * (t - 64)));
}
TEST_F(Hazards, BarrierThatTheReaderIsNotIn) {
  expect({Hazard::shared_race, Hazard::uninitialized_shared}, barrier_of_others<true>, barrier_of_others<false>,
         one_block(96));
}

template <bool kWrong>
RH_KERNEL(32, 1) never_written(RH_GRID_CONST const Arguments a) {
  const uint32_t t = ptx::thread_index(), shared = ptx::smem_base();
  if (!kWrong || t > 0) ptx::sts32f(shared + 4 * t, 1);
  ptx::syncwarp();
  ptx::stg32f(a.out + t, ptx::lds32f(shared + 4 * (t ^ 1)));
}
TEST_F(Hazards, UninitializedShared) {
  expect(Hazard::uninitialized_shared, never_written<true>, never_written<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(32, 1) past_the_end(RH_GRID_CONST const Arguments) {
  ptx::sts32f(ptx::smem_base() + 4 * ptx::thread_index() + (kWrong ? 4 : 0), 1);
}
TEST_F(Hazards, SharedOutOfBounds) {
  expect(Hazard::shared_out_of_bounds, past_the_end<true>, past_the_end<false>, one_block(32, 128));
}

template <bool kWrong>
RH_KERNEL(32, 1) misaligned_shared(RH_GRID_CONST const Arguments) {
  ptx::sts64f(ptx::smem_base() + 8 * ptx::thread_index() + (kWrong ? 4 : 0), 1, 2);
}
TEST_F(Hazards, MisalignedShared) {
  expect(Hazard::misaligned_access, misaligned_shared<true>, misaligned_shared<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(32, 1) misaligned_rows(RH_GRID_CONST const Arguments) {
  const uint32_t t = ptx::thread_index(), shared = ptx::smem_base();
  for (uint32_t i = 0; i < 4; ++i) ptx::sts32(shared + 512 + 4 * (t + 32 * i), t);
  for (uint32_t i = 0; i < 4; ++i) ptx::sts32(shared + 4 * (t + 32 * i), t);
  ptx::syncwarp();
  uint32_t r[4];
  ptx::ldmatrix_x4(r, shared + 16 * t + (kWrong && t == 5 ? 8 : 0));
}
TEST_F(Hazards, MisalignedRowOfLdmatrix) {
  expect(Hazard::misaligned_access, misaligned_rows<true>, misaligned_rows<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(64, 1) barrier_in_a_branch(RH_GRID_CONST const Arguments) {
  if (!kWrong || ptx::thread_index() < 32) ptx::syncthreads();
}
TEST_F(Hazards, DivergentBarrier) {
  expect(Hazard::divergent_barrier, barrier_in_a_branch<true>, barrier_in_a_branch<false>, one_block(64));
}

template <bool kWrong>
RH_KERNEL(64, 1) counts_differ(RH_GRID_CONST const Arguments) {
  ptx::named_barrier(3, kWrong && ptx::thread_index() < 32 ? 32 * 1 + 64 : 64);
}
TEST_F(Hazards, BarrierWithDifferentCounts) {
  expect(Hazard::divergent_barrier, counts_differ<true>, counts_differ<false>, one_block(64));
}

template <bool kWrong>
RH_KERNEL(32, 1) shuffle_in_a_branch(RH_GRID_CONST const Arguments a) {
  const uint32_t t = ptx::thread_index();
  float v = static_cast<float>(t);
  if (!kWrong || t < 16) v += ptx::shfl_xor(v, 1);
  ptx::stg32f(a.out + t, v);
}
TEST_F(Hazards, ShuffleInABranch) {
  expect(Hazard::divergent_collective, shuffle_in_a_branch<true>, shuffle_in_a_branch<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(32, 1) lanes_disagree(RH_GRID_CONST const Arguments) {
  const uint32_t t = ptx::thread_index();
  if (kWrong && t == 7) {
    ptx::ballot(true);
  } else {
    ptx::shfl(t, 0);
  }
}
TEST_F(Hazards, LanesExecuteDifferentCollectives) {
  expect(Hazard::divergent_collective, lanes_disagree<true>, lanes_disagree<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(32, 1) not_uniform(RH_GRID_CONST const Arguments) {
  ptx::uniform(kWrong ? ptx::thread_index() : ptx::thread_index() / 32);
}
TEST_F(Hazards, UniformThatIsNot) {
  expect(Hazard::divergent_collective, not_uniform<true>, not_uniform<false>, one_block(32));
}

}  // namespace
}  // namespace simt::testing
