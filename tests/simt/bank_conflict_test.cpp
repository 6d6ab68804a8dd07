// SPDX-License-Identifier: Apache-2.0
#include "tests/simt/bank_conflicts.h"

#include "tests/simt/hazard_testing.h"

namespace simt::testing {
namespace {

struct Pattern {
  int kind;  // 0: 4 bytes, 1: 16 bytes, 2: ldmatrix, 3: cp.async, 4: store of 4 bytes
  uint32_t stride, modulus;  // bytes from lane to lane, and where that starts anew
  const void* from;
};

RH_KERNEL(64, 1) touch(RH_GRID_CONST const Pattern p) {
  const uint32_t thread = ptx::thread_index(), lane = thread % 32, shared = ptx::smem_base();
  const uint32_t at = shared + lane * p.stride % p.modulus;
  if (p.kind == 3 && thread < 32) {
    ptx::cp_async16(at, p.from, 16);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
  }
  if (p.kind == 4 && thread < 32) ptx::sts32(at, 1);
  if (p.kind >= 3) return;
  if (thread == 0) {
    for (uint32_t i = 0; i < 16384; i += 4) ptx::sts32(shared + i, i);
  }
  ptx::syncthreads();
  // Lanes come to a place in different orders and one of them twice in a row: still one instruction.
  for (uint32_t turn = 0; turn < 2; ++turn) {
    if (p.kind == 0) ptx::lds32(at);
    if (p.kind == 1) ptx::lds128(at);
    uint32_t r[4];
    if (p.kind == 2) ptx::ldmatrix_x4(r, at);
    if (turn == 0 && lane % 3 == 1) continue;
    ptx::lds32(shared + 4 * lane);
  }
}

class BankConflicts : public ::testing::Test {
 protected:
  BankConflicts() : from_(std::vector<uint16_t>(8, 1)) { look_for_bank_conflicts(true); }
  ~BankConflicts() override { look_for_bank_conflicts(false); }
  uint32_t ways(int kind, uint32_t stride, uint32_t modulus = 16384) {
    uint32_t most = 0;
    for (const auto& [schedule, seed] : schedules()) {
      look_for_bank_conflicts(true);
      Launch launch = one_block(64, 16384);
      launch.schedule = schedule;
      launch.seed = seed;
      run(launch, touch, Pattern{kind, stride, modulus, from_.data()});
      most = std::max(most, worst_bank_conflict().ways);
    }
    return most;
  }
  DeviceArray<uint16_t> from_;
};

TEST_F(BankConflicts, FourBytesALane) {
  EXPECT_EQ(ways(0, 4), 1u);
  EXPECT_EQ(ways(0, 0), 1u);  // the same word for all
  EXPECT_EQ(ways(0, 12), 1u);
  EXPECT_EQ(ways(0, 8), 2u);
  EXPECT_EQ(ways(0, 128), 32u);
  EXPECT_EQ(ways(0, 128, 512), 4u);
  EXPECT_EQ(ways(4, 4), 1u);
  EXPECT_EQ(ways(4, 64), 16u);
}

TEST_F(BankConflicts, SixteenBytesALane) {
  EXPECT_EQ(ways(1, 16), 1u);
  EXPECT_EQ(ways(1, 32), 2u);
  EXPECT_EQ(ways(1, 256), 8u);
  EXPECT_EQ(ways(3, 16), 1u);
  EXPECT_EQ(ways(3, 64), 4u);
}

TEST_F(BankConflicts, RowsOfLdmatrix) {
  EXPECT_EQ(ways(2, 16), 1u);
  EXPECT_EQ(ways(2, 144), 1u);
  EXPECT_EQ(ways(2, 128), 8u);
}

TEST_F(BankConflicts, SaysWhere) {
  ways(0, 128);
  const std::string access = worst_bank_conflict().access;
  EXPECT_EQ(access.rfind("bank_conflict_test.cpp:", 0), 0u) << access;
  EXPECT_NE(access.find("32-way load of 4 bytes a lane by lanes 0: 0x400 1: 0x480 2: 0x500"), std::string::npos)
      << access;
  look_for_bank_conflicts(true);
  EXPECT_EQ(worst_bank_conflict().ways, 1u);
}

}  // namespace
}  // namespace simt::testing
