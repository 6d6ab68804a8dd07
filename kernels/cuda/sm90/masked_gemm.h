// SPDX-License-Identifier: Apache-2.0
//
// sum_k bit(row, k) v[k] B[k, column]: dW1 and dX (sm80/masked_gemm.h has what rows, k, v and B are).        sm_90a only
//
// Tile 256 rows x 128 columns x 64 k; one warp that copies and two warpgroups of 2 x m64n128k16, whose left operand is
// made in registers from bits and v (mask.h) and whose right one lies in shared memory as its rows do: MN-major, 64
// columns to a box of 8 KB (the leading distance), 8 k 1,024 apart, k16 2,048 bytes further. Blocks are persistent.
//   shared     stage = B 16 KB + bits 2 KB + v of 4 unit blocks in up to 3 planes 1.5 KB; 8 stages = 156 KB
//   registers  128 accumulators + 2 x 16 of fragments, a group of k32 being multiplied while the next is made, in 232
//   barriers   full[s]: the copying thread and the stage's bytes; empty[s]: one thread of each of 8 warps, since each
//              warp reads bits and v itself, and wgmma orders warps for B only
// The rows of dW1 may come in any order, since they are made here: a warp takes 16 from each of four blocks such that
// all of its rows are of one block of 64 units, hence of one member.
//
// Bound (prediction): the tensor cores; L2 18 KB a stage of 1,024 clocks.
#pragma once

#include "kernels/cuda/products.h"
#include "kernels/cuda/sm90/ring.h"

namespace rewardhead::kernels::cuda::sm90 {

struct MaskedGemmParameters : MaskedTiles {
  ptx::TensorMap b[kMaxPlanes];  // boxes of 64 columns x 64 k, zeros outside
};

struct MaskedTile {
  static constexpr int kRows = 256, kColumns = 128, kK = 64, kStages = 8, kThreads = 384, kUnitBlocks = kRows / 64;
  static constexpr int kBBytes = kK * kColumns * 2, kMaskBytes = kRows * kK / 8;
  static constexpr int kVBytes = kUnitBlocks * kK * 2;  // of one plane
  static constexpr int kMask = kStages * kBBytes, kV = kMask + kStages * kMaskBytes;
  static constexpr int kBarriers = kV + kStages * 3 * kVBytes, kSharedBytes = kBarriers + 2 * kStages * 8;
};

template <ptx::Input kInput, bool kRowsAreUnits>
RH_KERNEL(MaskedTile::kThreads, 1) masked_gemm(RH_GRID_CONST const MaskedGemmParameters p) {
  using T = MaskedTile;
  constexpr uint32_t kOnes = kInput == ptx::Input::bf16 ? 0x3f803f80u : 0x3c003c00u;
  constexpr int kVBlocks = kRowsAreUnits ? T::kUnitBlocks : 1;
  const uint32_t thread = ptx::thread_index(), lane = thread % 32, warp = ptx::uniform(thread / 32);
  const uint32_t shared = ptx::smem_base(), full = shared + T::kBarriers, empty = full + 8 * T::kStages;
  // In each turn a block makes a tile of one part of dW1's sum, or adds one member to its tile of dX.
  const int all_tiles = p.tiles * p.splits, members = kRowsAreUnits ? 1 : p.members;
  const auto index_of = [&](int turn) {
    return static_cast<int>(ptx::block_index()) + turn / members * static_cast<int>(ptx::block_count());
  };
  const int plane_steps = (p.k + T::kK - 1) / T::kK, all_steps = p.b_planes * plane_steps;
  const auto split_begin = [&](int split) { return static_cast<int>(int64_t{all_steps} * split / p.splits); };
  const auto b_plane_of = [&](int step) { return p.b_planes - 1 - step / plane_steps; };

  if (thread == 0) {
    for (int s = 0; s < T::kStages; ++s) {
      ptx::mbar_init(full + 8 * s, 1);
      ptx::mbar_init(empty + 8 * s, 8);
    }
    ptx::fence_mbarrier_init();
  }
  ptx::syncthreads();
  ptx::grid_dependency_wait();

  Ring<T::kStages> ring;
  if (warp < 4) {  // ---- copies: one thread; warps 1 to 3 only give their registers away
    ptx::setmaxnreg_dec<40>();
    if (warp == 0 && ptx::elect_one()) {
      for (int turn = 0; index_of(turn) < all_tiles; ++turn) {
        const int split = index_of(turn) / p.tiles, tile = index_of(turn) % p.tiles, member = turn % members;
        const int row0 = tile / p.tiles_n * T::kRows, column0 = tile % p.tiles_n * T::kColumns;
        const int end = split_begin(split + 1);
        const int first_k = member * p.k;  // of B and of the mask's units
        int v_member[kVBlocks] = {member};
        RH_UNROLL for (int c = 0; c < kVBlocks; ++c) {  // dW1: of each block of 64 units that exists
          const int unit_block = row0 / 64 + c;
          if (kRowsAreUnits && unit_block * 64 < p.output.rows) v_member[c] = unit_block / p.output.member_blocks;
        }
        for (int step = split_begin(split); step < end; ++step, ring.advance()) {
          ptx::mbar_wait(empty + 8 * ring.slot, ring.phase ^ 1);
          const int k0 = step % plane_steps * T::kK;
          const uint32_t bar = full + 8 * ring.slot, b = shared + ring.slot * T::kBBytes;
          const uint32_t bits = shared + T::kMask + ring.slot * T::kMaskBytes, v = shared + T::kV + ring.slot * 3 * T::kVBytes;
          ptx::mbar_expect_tx(bar, T::kBBytes + T::kMaskBytes + p.v_planes * kVBlocks * 128);
          const ptx::TensorMap* const map = &p.b[b_plane_of(step)];
          ptx::tma_load_2d(b, map, bar, column0, first_k + k0);
          ptx::tma_load_2d(b + T::kBBytes / 2, map, bar, column0 + 64, first_k + k0);
          // dW1: 4 unit blocks x 4 row blocks; dX: one unit block x 16 row blocks.
          const auto mask_block = [&](int unit_block, int row_block) {
            return p.mask + (int64_t{unit_block} * p.mask_row_blocks + row_block) * kMaskBlockWords;
          };
          if constexpr (kRowsAreUnits) {
            for (int c = 0; c < 4; ++c) ptx::bulk_load(bits + 512 * c, mask_block(row0 / 64 + c, k0 / 16), 512, bar);
          } else {
            ptx::bulk_load(bits, mask_block((first_k + k0) / 64, row0 / 16), T::kMaskBytes, bar);
          }
          RH_UNROLL for (int c = 0; c < kVBlocks; ++c) {
            for (int plane = 0; plane < p.v_planes; ++plane) {
              ptx::bulk_load(v + plane * T::kVBytes + c * 128,
                             p.v + (int64_t{v_member[c]} * p.v_planes + plane) * p.v_stride + k0, 128, bar);
            }
          }
        }
      }
    }
  } else {  // ---- products
    ptx::setmaxnreg_inc<232>();
    const uint32_t warpgroup = warp / 4 - 1, part = warp % 4, g = lane / 4, q = lane % 4;
    for (int turn = 0; index_of(turn) < all_tiles; ++turn) {
      const int split = index_of(turn) / p.tiles, tile = index_of(turn) % p.tiles, tile_n = tile % p.tiles_n;
      const int row0 = tile / p.tiles_n * T::kRows;
      const int begin = split_begin(split), end = split_begin(split + 1);
      const bool sums_v = kRowsAreUnits && tile_n == 0;
      float sum[2][64], ones[2][4];
      RH_UNROLL for (auto& a : sum) RH_UNROLL for (auto& c : a) c = 0.0f;
      RH_UNROLL for (auto& a : ones) RH_UNROLL for (auto& c : a) c = 0.0f;
      uint32_t a[2][2][2][4];  // [group][k16 of the group][block of 64 rows]
      uint32_t previous = 0;
      for (int step = begin; step < end; ++step, ring.advance()) {
        ptx::mbar_wait(full + 8 * ring.slot, ring.phase);
        const uint32_t bits = shared + T::kMask + ring.slot * T::kMaskBytes;
        const uint32_t v = shared + T::kV + ring.slot * 3 * T::kVBytes + (kRowsAreUnits ? part * 128 : 0) + q * 4;
        const uint64_t b = ptx::smem_desc_sw128(shared + ring.slot * T::kBBytes, T::kBBytes / 2, 1024);
        const int b_plane = b_plane_of(step);
        uint32_t own[2] = {};
        if constexpr (!kRowsAreUnits) {
          RH_UNROLL for (int m = 0; m < 2; ++m) own[m] = ptx::lds32(bits + (warpgroup * 8 + m * 4 + part) * 128 + lane * 4);
        }
        const int v_planes = v_planes_with(p.b_planes, p.v_planes, b_plane);
        for (int v_plane = v_planes - 1; v_plane >= 0; --v_plane) {
          RH_UNROLL for (int group = 0; group < 2; ++group) {  // of two k16
            ptx::wgmma_wait<1>();  // all but the group before: the fragments of the one before that may be made anew
            if (group == 1 && v_plane == v_planes - 1 && step > begin && lane == 0) ptx::mbar_arrive(empty + 8 * previous);
            RH_UNROLL for (int k = 0; k < 2; ++k) {
              const uint32_t k16 = 2 * group + k, from = v + v_plane * T::kVBytes + k16 * 32;
              const uint32_t v_low = ptx::lds32(from), v_high = ptx::lds32(from + 16);
              uint32_t w0 = 0, w1 = 0;
              if constexpr (kRowsAreUnits) {
                const uint32_t word = bits + (part * 4 + k16) * 128 + (8 * q + g / 2) * 4;
                w0 = ptx::lds32(word) >> (g % 2);
                w1 = ptx::lds32(word + 16) >> (g % 2);
              }
              RH_UNROLL for (int m = 0; m < 2; ++m) {
                if constexpr (kRowsAreUnits) {
                  expand_mask<true>(a[group][k][m], w0, w1, 2 * warpgroup + m, v_low, v_high);
                  if (sums_v && b_plane == 0) ptx::mma_m16n8k16<kInput>(ones[m], a[group][k][m], kOnes, kOnes);
                } else {
                  expand_mask<false>(a[group][k][m], own[m], own[m] >> 1, k16, v_low, v_high);
                }
              }
            }
            ptx::wgmma_fence();
            RH_UNROLL for (int k = 0; k < 2; ++k) {
              RH_UNROLL for (int m = 0; m < 2; ++m) {
                ptx::wgmma_m64n128k16_rs<kInput, 1>(sum[m], a[group][k][m], b + (2 * group + k) * (2048 >> 4));
              }
            }
            ptx::wgmma_commit();
          }
        }
        previous = ring.slot;
      }
      ptx::wgmma_wait<0>();
      if (end > begin && lane == 0) ptx::mbar_arrive(empty + 8 * previous);

      RH_UNROLL for (int m = 0; m < 2; ++m) {
        RH_UNROLL for (int half = 0; half < 2; ++half) {
          const uint32_t in_tile = kRowsAreUnits ? 64 * part + 16 * (2 * warpgroup + m) : 128 * warpgroup + 64 * m + 16 * part;
          float x[16], y[16];
          RH_UNROLL for (int j = 0; j < 16; ++j) {
            x[j] = sum[m][4 * j + 2 * half];
            y[j] = sum[m][4 * j + 2 * half + 1];
          }
          finish_row<kRowsAreUnits>(p.output, kRowsAreUnits ? split : turn % members,
                                    row0 + static_cast<int>(in_tile + 8 * half + g),
                                    tile_n * T::kColumns + static_cast<int>(2 * q), tile_n, sums_v, ones[m][2 * half], x,
                                    y);
        }
      }
    }
  }
  ptx::grid_dependency_launch();
}

}  // namespace rewardhead::kernels::cuda::sm90
