// SPDX-License-Identifier: Apache-2.0
//
// z = X W1^T, then r_part and mask (head_epilogue.h), or z itself where the sum over columns is split.   sm_80 and later
//
// Block 128 rows x 128 units x 32 columns, 4 warps of 64 x 64, cp.async ring of 3 stages.
//   shared     stage = (128 + 128) rows x 64 B = 16 KB; 3 stages = 48 KB, so that two blocks fit the 100 KB of sm_86
//   registers  128 accumulators + 32 fragments + addresses: at most 255 for 2 blocks of 128 threads
//   per stage  64 matrix instructions and 16 ldmatrix a warp
// One loop over passes (planes.h) and columns: an accumulator sees all its products in one fixed order.
//
// Bound (prediction): the tensor cores; 16 KB from L2 for each 1,024 clocks of them on an A100, 16 B a clock.
#pragma once

#include "kernels/cuda/products.h"

namespace rewardhead::kernels::cuda::sm80 {

struct ForwardParameters : ForwardTiles {
  const uint16_t* x;          // [planes][rows][x_stride]
  const uint16_t* w1;         // [planes][units][w1_stride], units a multiple of 64
  int64_t x_plane, w1_plane;  // elements
  int64_t x_stride, w1_stride;
};

struct ForwardTile {
  static constexpr int kRows = 128, kUnits = 128, kColumns = 32, kStages = 3, kThreads = 128;
  static constexpr int kOperandBytes = kRows * kColumns * 2, kStageBytes = 2 * kOperandBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes;
};

// Rows of 64 bytes: the 16 bytes c of row r lie at c ^ (r / 2 % 4), so that eight rows of one column hit all banks.
RH_DEVICE uint32_t swizzle64(uint32_t row, uint32_t chunk) { return row * 64 + ((chunk ^ ((row >> 1) & 3)) << 4); }

template <ptx::Input kInput>
RH_KERNEL(ForwardTile::kThreads, 2) forward(RH_GRID_CONST const ForwardParameters p) {
  using T = ForwardTile;
  const uint32_t thread = ptx::thread_index(), lane = thread % 32, warp = thread / 32;
  const uint32_t shared = ptx::smem_base();
  const int block = static_cast<int>(ptx::block_index());
  const int split = block / p.tiles, tile = block % p.tiles;
  const int row0 = tile / p.tiles_n * T::kRows, unit0 = tile % p.tiles_n * T::kUnits;
  const int warp_row = static_cast<int>(warp / 2) * 64, warp_unit = static_cast<int>(warp % 2) * 64;
  const int units = p.output.unit_blocks * 64;

  // This split's part of all passes' steps, and where they begin.
  const int pass_steps = (p.columns + T::kColumns - 1) / T::kColumns;
  const int all_steps = p.passes.count * pass_steps;
  const int begin = static_cast<int>(int64_t{all_steps} * split / p.splits);
  const int steps = static_cast<int>(int64_t{all_steps} * (split + 1) / p.splits) - begin;

  // A thread copies the 16 bytes thread % 4 of rows thread / 4 + 32 i, of X and of W1. Rows 32 apart swizzle alike.
  const int copy_row = static_cast<int>(thread / 4), copy_column = static_cast<int>(thread % 4) * 8;
  const uint32_t copy_to = shared + swizzle64(thread / 4, thread % 4);
  const int64_t x_row = (row0 + copy_row) * p.x_stride + copy_column;
  const int64_t w1_row = (unit0 + copy_row) * p.w1_stride + copy_column;
  int pass = begin / pass_steps, column = begin % pass_steps * T::kColumns;  // of the next stage to copy
  uint32_t fill_slot = 0;
  const auto copy_stage = [&] {
    const uint16_t* const x = p.x + p.passes.pass[pass].a * p.x_plane + x_row + column;  // not read where nothing is valid
    const uint16_t* const w1 = p.w1 + p.passes.pass[pass].b * p.w1_plane + w1_row + column;
    const int left = p.columns - column - copy_column;
    const uint32_t bytes = left >= 8 ? 16 : left > 0 ? 2 * left : 0;
    const uint32_t to = copy_to + fill_slot * T::kStageBytes;
    RH_UNROLL for (int i = 0; i < 4; ++i) {
      ptx::cp_async16(to + i * 32 * 64, x + i * 32 * p.x_stride, row0 + copy_row + 32 * i < p.output.rows ? bytes : 0);
      ptx::cp_async16(to + T::kOperandBytes + i * 32 * 64, w1 + i * 32 * p.w1_stride,
                      unit0 + copy_row + 32 * i < units ? bytes : 0);
    }
    column += T::kColumns;
    if (column >= p.columns) {
      column = 0;
      ++pass;
    }
    fill_slot = fill_slot + 1 == T::kStages ? 0 : fill_slot + 1;
  };

  float z[4][8][4];
  RH_UNROLL for (auto& a : z) RH_UNROLL for (auto& b : a) RH_UNROLL for (auto& c : b) c = 0.0f;

  RH_UNROLL for (int s = 0; s < T::kStages - 1; ++s) {
    if (s < steps) copy_stage();
    ptx::cp_async_commit();
  }
  const uint32_t a_row = warp_row + lane % 16, a_chunk = lane / 16;
  const uint32_t b_row = warp_unit + lane % 8 + lane / 16 * 8, b_chunk = lane / 8 % 2;
  uint32_t slot = 0;
  for (int step = 0; step < steps; ++step) {
    ptx::cp_async_wait<T::kStages - 2>();
    ptx::syncthreads();  // this stage has landed for everyone, and everyone has left the one before
    if (step + T::kStages - 1 < steps) copy_stage();
    ptx::cp_async_commit();
    const uint32_t stage = shared + slot * T::kStageBytes;
    RH_UNROLL for (int k = 0; k < 2; ++k) {
      uint32_t a[4][4], b[4][4];
      RH_UNROLL for (int i = 0; i < 4; ++i) ptx::ldmatrix_x4(a[i], stage + swizzle64(a_row + 16 * i, a_chunk + 2 * k));
      RH_UNROLL for (int j = 0; j < 4; ++j) {
        ptx::ldmatrix_x4(b[j], stage + T::kOperandBytes + swizzle64(b_row + 16 * j, b_chunk + 2 * k));
      }
      RH_UNROLL for (int i = 0; i < 4; ++i) {
        RH_UNROLL for (int j = 0; j < 8; ++j) {
          ptx::mma_m16n8k16<kInput>(z[i][j], a[i], b[j / 2][2 * (j % 2)], b[j / 2][2 * (j % 2) + 1]);
        }
      }
    }
    slot = slot + 1 == T::kStages ? 0 : slot + 1;
  }

  const int unit_block = (unit0 + warp_unit) / 64;
  if (unit_block < p.output.unit_blocks) keep_block(p, z, split, row0 + warp_row, unit_block);
}

}  // namespace rewardhead::kernels::cuda::sm80
