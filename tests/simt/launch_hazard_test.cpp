// SPDX-License-Identifier: Apache-2.0
//
// Global memory, registers, occupancy, compute capabilities, and grids that overlap.
#include "tests/simt/device.h"
#include "tests/simt/hazard_testing.h"

namespace simt::testing {
namespace {

template <bool kWrong>
RH_KERNEL(32, 1) global_past_the_end(RH_GRID_CONST const Arguments a) {
  ptx::stg32f(a.out + 992 + ptx::thread_index() + (kWrong ? 1 : 0), 1);
}
TEST_F(Hazards, GlobalOutOfBounds) {
  expect(Hazard::global_out_of_bounds, global_past_the_end<true>, global_past_the_end<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(32, 1) pointer_of_the_host(RH_GRID_CONST const Arguments a) {
  static float host[32];
  ptx::stg32f((kWrong ? host : a.out) + ptx::thread_index(), 1);
}
TEST_F(Hazards, HostMemoryInAKernel) {
  expect(Hazard::global_out_of_bounds, pointer_of_the_host<true>, pointer_of_the_host<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(32, 1) misaligned_global(RH_GRID_CONST const Arguments a) {
  ptx::stg64f(a.out + 2 * ptx::thread_index() + (kWrong ? 1 : 0), 1, 2);
}
TEST_F(Hazards, MisalignedGlobal) {
  expect(Hazard::misaligned_access, misaligned_global<true>, misaligned_global<false>, one_block(32));
}

template <bool kWrong>
RH_KERNEL(32, 1) blocks_overlap(RH_GRID_CONST const Arguments a) {
  ptx::stg32f(a.out + (kWrong ? 31 : 32) * ptx::block_index() + ptx::thread_index(), 1);
}
TEST_F(Hazards, BlocksWriteTheSamePlace) {
  Launch launch = one_block(32);
  launch.blocks = 3;
  expect(Hazard::global_race, blocks_overlap<true>, blocks_overlap<false>, launch);
}

template <bool kWrong>
RH_KERNEL(32, 1) counts(RH_GRID_CONST const Arguments a) {
  uint32_t* const count = reinterpret_cast<uint32_t*>(a.out);
  if (kWrong) {
    ptx::stg32(count, ptx::ldg32(count) + 1);
  } else {
    ptx::atomic_add(count, 1);
  }
}
TEST_F(Hazards, BlocksCountWithoutAtomics) {
  Launch launch = one_block(32);
  launch.blocks = 2;
  expect(Hazard::global_race, counts<true>, counts<false>, launch);
}

TEST_F(Hazards, HostMayNotTouchDeviceMemory) {
  EXPECT_DEATH(arguments_.out[0] = 1, "");
  const HostAccess access;
  arguments_.out[0] = 1;
}

#if defined(__SANITIZE_ADDRESS__)
RH_KERNEL(32, 1) plain_dereference(RH_GRID_CONST const Arguments a) { a.out[1024 + ptx::thread_index()] = 1; }
TEST_F(Hazards, PlainDereferenceUnderAddressSanitizer) {
  EXPECT_DEATH(run(one_block(32), plain_dereference, arguments_), "AddressSanitizer: use-after-poison");
}
#endif

// ---- setmaxnreg. 384 threads start with 168 registers each.

template <uint32_t kProducer, uint32_t kConsumer>
RH_KERNEL(384, 1) registers(RH_GRID_CONST const Arguments) {
  if (ptx::thread_index() < 128) {
    ptx::setmaxnreg_dec<kProducer>();
  } else {
    ptx::setmaxnreg_inc<kConsumer>();
  }
}
TEST_F(Hazards, RegisterBudget) {
  expect(Hazard::register_budget, registers<40, 240>, registers<40, 232>, one_block(384));
  EXPECT_NE(message_.find("spare"), std::string::npos);
  expect(Hazard::register_budget, registers<176, 232>, registers<40, 232>, one_block(384));  // dec to more
  expect(Hazard::register_budget, registers<40, 160>, registers<40, 232>, one_block(384));   // inc to fewer
  expect(Hazard::register_budget, registers<36, 232>, registers<40, 232>, one_block(384));   // no multiple of 8
}

template <bool kWrong>
RH_KERNEL(384, 1) registers_of_some_warps(RH_GRID_CONST const Arguments) {
  if (ptx::thread_index() < (kWrong ? 32 : 128)) ptx::setmaxnreg_dec<40>();
}
TEST_F(Hazards, SetmaxnregByPartOfAWarpgroup) {
  expect(Hazard::divergent_collective, registers_of_some_warps<true>, registers_of_some_warps<false>, one_block(384));
}

// ---- Occupancy

RH_KERNEL(32, 1) nothing(RH_GRID_CONST const Arguments) {}

TEST_F(Hazards, Occupancy) {
  Launch l = one_block(1024, limits().shared_per_block);
  EXPECT_EQ(reported(nothing, l), "");
  l.min_blocks = 2;
  EXPECT_EQ(reported(nothing, l), "occupancy");
  EXPECT_EQ(reported(nothing, one_block(1025)), "occupancy");
  EXPECT_EQ(reported(nothing, one_block(32, limits().shared_per_block + 1)), "occupancy");
  Launch two = one_block(128, 113 * 1024);
  two.min_blocks = 2;
  EXPECT_EQ(reported(nothing, two), "");
  two.shared_bytes += 16;
  EXPECT_EQ(reported(nothing, two), "occupancy");
  Launch clusters = one_block(32);
  clusters.blocks = 3;
  clusters.cluster = 2;
  EXPECT_EQ(reported(nothing, clusters), "occupancy");
  clusters.blocks = clusters.cluster = 9;
  EXPECT_EQ(reported(nothing, clusters), "occupancy");
  Launch many_registers = one_block(512);
  many_registers.registers = 136;
  EXPECT_EQ(reported(nothing, many_registers), "occupancy");
  many_registers.registers = 128;
  EXPECT_EQ(reported(nothing, many_registers), "");
}

TEST_F(Hazards, OccupancyOfOtherDevices) {
  const Device before = device();
  Launch l = one_block(128, 49152);
  l.min_blocks = 2;
  for (const auto& [major, minor] : {std::pair{8, 0}, {8, 6}, {8, 9}, {9, 0}, {10, 0}, {12, 0}}) {
    set_device({major, minor});
    EXPECT_EQ(reported(nothing, l), "") << major << '.' << minor;
  }
  set_device({7, 5});
  EXPECT_EQ(reported(nothing, l), "occupancy");
  set_device({8, 6});
  l.shared_bytes = 50177;
  EXPECT_EQ(reported(nothing, l), "occupancy");
  set_device(before);
  EXPECT_THROW(set_device({7, 0}), std::invalid_argument);
}

RH_KERNEL(32, 1) elects(RH_GRID_CONST const Arguments) { ptx::elect_one(); }
TEST_F(Hazards, UnsupportedInstruction) {
  const Device before = device();
  set_device({8, 0});
  EXPECT_EQ(reported(elects, one_block(32)), "unsupported-instruction");
  set_device(before);
  EXPECT_EQ(reported(elects, one_block(32)), "");
}

// ---- Programmatic dependent launch

RH_KERNEL(32, 1) produce(RH_GRID_CONST const Arguments a) {
  ptx::grid_dependency_launch();
  const uint32_t t = ptx::thread_index();
  ptx::stg32f(a.out + t, ptx::ldg32f(a.in + t));
}

template <int kEarly>  // 0: nothing; 1: reads the output; 2: overwrites the input; 3: reads the input, which is allowed
RH_KERNEL(64, 1) consume(RH_GRID_CONST const Arguments a) {
  const uint32_t t = ptx::thread_index() % 32;
  float* const in = const_cast<float*>(a.in);
  float v = 0;
  if (kEarly == 1) v = ptx::ldg32f(a.out + t);
  if (kEarly == 2 && ptx::thread_index() < 32) ptx::stg32f(in + t, 1);
  if (kEarly == 3) v = ptx::ldg32f(a.in + t);
  if (ptx::thread_index() < 32) ptx::grid_dependency_wait();
  ptx::syncthreads();  // the second warp is ordered after the first one's wait
  v += ptx::ldg32f(a.out + t);
  if (ptx::thread_index() < 32) ptx::stg32f(in + t, v);
}

TEST_F(Hazards, AccessBeforeTheDependencyWait) {
  for (const auto& [schedule, seed] : schedules()) {
    Launch first = one_block(32), second = one_block(64);
    first.schedule = second.schedule = schedule;
    first.seed = second.seed = seed;
    const auto after_producer = [&](HazardKernel kernel) {
      second.unfinished_since = run(first, produce, arguments_);
      return reported(kernel, second);
    };
    EXPECT_EQ(after_producer(consume<0>), "");
    EXPECT_EQ(after_producer(consume<1>), "early-access");
    EXPECT_EQ(after_producer(consume<2>), "early-access");
    EXPECT_EQ(after_producer(consume<3>), "");
    // Without the overlap, nothing of it is wrong.
    second.unfinished_since = 0;
    run(first, produce, arguments_);
    EXPECT_EQ(reported(consume<1>, second), "");
  }
}

}  // namespace
}  // namespace simt::testing
