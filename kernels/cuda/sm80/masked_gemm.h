// SPDX-License-Identifier: Apache-2.0
//
// sum_k bit(row, k) v[k] B[k, column]: both backward products are this with different names.            sm_80 and later
//
//   dW1   rows = hidden units   k = rows of X         v = dr   B = X     out = w2 of the row times the sum
//         also <W1, sum> of each row, a part for each 64 columns, for dw2, and g = sum_k bit v for db1 and dw2
//   dX    rows = rows of X      k = hidden units      v = w2   B = W1    out = dr of the row times the sum
//
// The left operand is never in memory: it is made in registers from bits and v (mask.h). Only B costs bandwidth, so the
// tile is tall: 256 rows x 128 columns x 64 k, 8 warps of 64 x 64, cp.async ring of 4 stages.
//   shared     stage = 64 rows x 256 B of B + 2 KB of bits + v of 4 unit blocks in up to 3 planes 1.5 KB = 19.5 KB;
//              4 stages = 78 KB
//   registers  128 accumulators + 16 of g + 16 of B + fragments: at most 255 for 256 threads
// B is multiplied plane by plane, smallest first, and while its fragments are in registers by all planes of v that go
// with it (planes.h). g is a product with ones, in the warps of the first columns, of plane 0 of B, which meets all of v.
//
// Bound (prediction): the tensor cores; 18 KB from L2 for each 2,048 clocks of them on an A100, 9 B a clock.
#pragma once

#include "kernels/cuda/products.h"

namespace rewardhead::kernels::cuda::sm80 {

struct MaskedGemmParameters : MaskedTiles {
  const uint16_t* b;  // [planes][k][b_stride]
  int64_t b_plane, b_stride;
};

struct MaskedTile {
  static constexpr int kRows = 256, kColumns = 128, kK = 64, kStages = 4, kThreads = 256;
  static constexpr int kUnitBlocks = kRows / 64;
  static constexpr int kBBytes = kK * kColumns * 2, kMaskBytes = kRows * kK / 8;
  static constexpr int kVBytes = kUnitBlocks * kK * 2;  // of one plane
  static constexpr int kStageBytes = kBBytes + kMaskBytes + 3 * kVBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes;
};

// Rows of 256 bytes: the 16 bytes c of row r lie at c ^ (r % 8), so that eight rows of one column hit all banks.
RH_DEVICE uint32_t swizzle256(uint32_t row, uint32_t chunk) { return row * 256 + ((chunk ^ (row & 7)) << 4); }

template <ptx::Input kInput, bool kRowsAreUnits>
RH_KERNEL(MaskedTile::kThreads, 1) masked_gemm(RH_GRID_CONST const MaskedGemmParameters p) {
  using T = MaskedTile;
  constexpr uint32_t kOnes = kInput == ptx::Input::bf16 ? 0x3f803f80u : 0x3c003c00u;
  const uint32_t thread = ptx::thread_index(), lane = thread % 32, warp = thread / 32, g = lane / 4, q = lane % 4;
  const uint32_t shared = ptx::smem_base();
  const int block = static_cast<int>(ptx::block_index());
  const int split = block / p.tiles, tile = block % p.tiles, tile_n = tile % p.tiles_n;
  const int row0 = tile / p.tiles_n * T::kRows, column0 = tile_n * T::kColumns;
  const uint32_t warp_row = warp / 2 * 64, warp_column = warp % 2 * 64;

  const int plane_steps = (p.k + T::kK - 1) / T::kK;
  const int all_steps = p.b_planes * plane_steps;
  const int begin = static_cast<int>(int64_t{all_steps} * split / p.splits);
  const int end = static_cast<int>(int64_t{all_steps} * (split + 1) / p.splits);

  // B: the 16 bytes thread % 16 of rows thread / 16 + 16 i. Bits: 16 blocks of 128 bytes by 128 threads. v: the others.
  const uint32_t copy_to = shared + swizzle256(thread / 16, thread % 16);
  const int copy_column = column0 + static_cast<int>(thread % 16) * 8;
  const int columns_left = p.output.columns - copy_column;
  const uint32_t copy_bytes = columns_left >= 8 ? 16 : columns_left > 0 ? 2 * columns_left : 0;
  const auto copy_stage = [&](int member, int step) {
    const uint32_t stage = static_cast<uint32_t>((step - begin) % T::kStages * T::kStageBytes);
    const int plane = p.b_planes - 1 - step / plane_steps, k0 = step % plane_steps * T::kK;
    const int row = k0 + static_cast<int>(thread / 16);
    // Read where bytes are valid.
    const uint16_t* const b = p.b + plane * p.b_plane + (int64_t{member} * p.k + row) * p.b_stride + copy_column;
    RH_UNROLL for (int i = 0; i < 4; ++i) {
      ptx::cp_async16(copy_to + stage + i * 16 * 256, b + i * 16 * p.b_stride, row + 16 * i < p.k ? copy_bytes : 0);
    }
    const uint32_t bits = shared + stage + T::kBBytes, v = bits + T::kMaskBytes;
    if (thread < 128) {  // dW1: 4 unit blocks x 4 row blocks; dX: one unit block x 16 row blocks
      const int piece = static_cast<int>(thread / 8);
      const int unit_block = kRowsAreUnits ? row0 / 64 + piece / 4 : (member * p.k + k0) / 64;
      const int row_block = kRowsAreUnits ? k0 / 16 + piece % 4 : row0 / 16 + piece;
      const uint32_t* const from = p.mask + (int64_t{unit_block} * p.mask_row_blocks + row_block) * kMaskBlockWords;
      ptx::cp_async16(bits + thread * 16, from + thread % 8 * 4, 16);
    } else {
      const int piece = static_cast<int>(thread) - 128, v_block = piece / 8 % (kRowsAreUnits ? T::kUnitBlocks : 1);
      const int v_plane = piece / 8 / (kRowsAreUnits ? T::kUnitBlocks : 1);
      const int unit_block = row0 / 64 + v_block;
      const bool exists = kRowsAreUnits && unit_block * 64 < p.output.rows;
      const int v_member = exists ? unit_block / p.output.member_blocks : member;
      if (v_plane < p.v_planes) {
        ptx::cp_async16(v + v_plane * T::kVBytes + v_block * 128 + thread % 8 * 16,
                        p.v + (int64_t{v_member} * p.v_planes + v_plane) * p.v_stride + k0 + thread % 8 * 8, 16);
      }
    }
  };

  const bool sums_v = kRowsAreUnits && tile_n == 0 && warp_column == 0;
  const uint32_t b_row = lane % 16, b_chunk = warp_column / 8 + lane / 16;
  const int members = kRowsAreUnits ? 1 : p.members;
  for (int member = 0; member < members; ++member) {
    if (member > 0) ptx::syncthreads();  // everyone has left the stages of the one before
    float sum[4][8][4], ones[4][4];
    RH_UNROLL for (auto& a : sum) RH_UNROLL for (auto& b : a) RH_UNROLL for (auto& c : b) c = 0.0f;
    RH_UNROLL for (auto& a : ones) RH_UNROLL for (auto& c : a) c = 0.0f;

    RH_UNROLL for (int s = 0; s < T::kStages - 1; ++s) {
      if (begin + s < end) copy_stage(member, begin + s);
      ptx::cp_async_commit();
    }
    for (int step = begin; step < end; ++step) {
      ptx::cp_async_wait<T::kStages - 2>();
      ptx::syncthreads();  // this stage has landed for everyone, and everyone has left the one before
      if (step + T::kStages - 1 < end) copy_stage(member, step + T::kStages - 1);
      ptx::cp_async_commit();
      const uint32_t stage = shared + static_cast<uint32_t>((step - begin) % T::kStages * T::kStageBytes);
      const uint32_t bits = stage + T::kBBytes;
      const uint32_t v = bits + T::kMaskBytes + (kRowsAreUnits ? warp_row / 64 * 128 : 0) + q * 4;
      const int b_plane = p.b_planes - 1 - step / plane_steps;
      uint32_t own[4] = {};
      if constexpr (!kRowsAreUnits) {
        RH_UNROLL for (int i = 0; i < 4; ++i) own[i] = ptx::lds32(bits + (warp_row / 16 + i) * 128 + lane * 4);
      }
      RH_UNROLL for (int k = 0; k < 4; ++k) {
        uint32_t b[4][4];
        RH_UNROLL for (int j = 0; j < 4; ++j) {
          ptx::ldmatrix_x4_trans(b[j], stage + swizzle256(b_row + 16 * k, b_chunk + 2 * j));
        }
        uint32_t w0 = 0, w1 = 0;
        if constexpr (kRowsAreUnits) {
          const uint32_t word = bits + (warp_row / 16 + k) * 128 + (8 * q + g / 2) * 4;
          w0 = ptx::lds32(word) >> (g % 2);
          w1 = ptx::lds32(word + 16) >> (g % 2);
        }
        for (int v_plane = v_planes_with(p.b_planes, p.v_planes, b_plane) - 1; v_plane >= 0; --v_plane) {
          const uint32_t v_low = ptx::lds32(v + v_plane * T::kVBytes + k * 32);
          const uint32_t v_high = ptx::lds32(v + v_plane * T::kVBytes + k * 32 + 16);
          RH_UNROLL for (int i = 0; i < 4; ++i) {
            uint32_t a[4];
            if constexpr (kRowsAreUnits) {
              expand_mask<true>(a, w0, w1, i, v_low, v_high);
            } else {
              expand_mask<false>(a, own[i], own[i] >> 1, k, v_low, v_high);
            }
            RH_UNROLL for (int j = 0; j < 8; ++j) {
              ptx::mma_m16n8k16<kInput>(sum[i][j], a, b[j / 2][2 * (j % 2)], b[j / 2][2 * (j % 2) + 1]);
            }
            if (sums_v && b_plane == 0) ptx::mma_m16n8k16<kInput>(ones[i], a, kOnes, kOnes);
          }
        }
      }
    }

    // Shuffled, so that the compiler does not keep all that follows from them in registers from one member to the next.
    const int own_row0 = static_cast<int>(ptx::uniform(row0)), own_column0 = static_cast<int>(ptx::uniform(column0));
    RH_UNROLL for (int i = 0; i < 4; ++i) {
      RH_UNROLL for (int half = 0; half < 2; ++half) {
        const int row = own_row0 + static_cast<int>(warp_row + 8 * half + g) + 16 * i;
        float x[8], y[8];
        RH_UNROLL for (int j = 0; j < 8; ++j) {
          x[j] = sum[i][j][2 * half];
          y[j] = sum[i][j][2 * half + 1];
        }
        finish_row<kRowsAreUnits>(p.output, kRowsAreUnits ? split : member, row,
                                  own_column0 + static_cast<int>(warp_column + 2 * q),
                                  tile_n * 2 + static_cast<int>(warp % 2), sums_v, ones[i][2 * half], x, y);
      }
    }
  }
}

}  // namespace rewardhead::kernels::cuda::sm80
