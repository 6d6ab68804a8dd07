// SPDX-License-Identifier: Apache-2.0
//
// z = X W1^T, then r_part and mask (head_epilogue.h), or z itself where the sum over columns is split.      sm_90a only
//
// Tile 128 rows x 256 units x 64 columns; one warp that copies and two warpgroups of m64n256k16, each with 64 rows.
// A cluster of two blocks takes two tiles of rows and the same units: each block brings half of W1 for both. Blocks are
// persistent: cluster c takes groups c, c + clusters, ..., and copies for the next one under the epilogue of the last.
//   shared     stage = X 16 KB + W1 32 KB; 4 stages = 192 KB, and barriers
//   registers  128 accumulators in 232, the copying warps 40: 128 x 40 + 256 x 232 = 64,512 of 65,536
//   barriers   full[s]: the copying thread's arrival and 48 KB; empty[s]: a thread of each warpgroup of both blocks
// Both operands are K-major in the 128-byte swizzle (rows of 128 bytes, 8 rows 1,024 apart); k16 is 32 bytes further.
//
// Bound (prediction): shared memory's port, which at 1,024 clocks a stage is 100 % busy; L2 32 KB a stage.
#pragma once

#include "kernels/cuda/products.h"
#include "kernels/cuda/sm90/ring.h"

namespace rewardhead::kernels::cuda::sm90 {

struct ForwardParameters : ForwardTiles {  // of a cluster
  ptx::TensorMap x[kMaxPlanes], w1[kMaxPlanes];  // boxes of 64 columns x 128 rows, zeros outside
};

struct ForwardTile {
  static constexpr int kRows = 128, kUnits = 256, kColumns = 64, kStages = 4, kThreads = 384, kCluster = 2;
  static constexpr int kXBytes = kRows * kColumns * 2, kW1Bytes = kUnits * kColumns * 2;
  static constexpr int kStageBytes = kXBytes + kW1Bytes;
  static constexpr int kBarriers = kStages * kStageBytes;
  static constexpr int kSharedBytes = kBarriers + 2 * kStages * 8;
};

template <ptx::Input kInput>
RH_KERNEL(ForwardTile::kThreads, 1) forward(RH_GRID_CONST const ForwardParameters p) {
  using T = ForwardTile;
  const uint32_t thread = ptx::thread_index(), warp = ptx::uniform(thread / 32);
  const uint32_t shared = ptx::smem_base(), full = shared + T::kBarriers, empty = full + 8 * T::kStages;
  const int rank = static_cast<int>(ptx::cluster_rank());
  const int first = static_cast<int>(ptx::block_index()) / T::kCluster;
  const int step_groups = static_cast<int>(ptx::block_count()) / T::kCluster;
  const int groups = p.tiles * p.splits;
  const int pass_steps = (p.columns + T::kColumns - 1) / T::kColumns, all_steps = p.passes.count * pass_steps;
  const auto split_begin = [&](int split) { return static_cast<int>(int64_t{all_steps} * split / p.splits); };

  if (thread == 0) {
    for (int s = 0; s < T::kStages; ++s) {
      ptx::mbar_init(full + 8 * s, 1);
      ptx::mbar_init(empty + 8 * s, 2 * T::kCluster);
    }
    ptx::fence_mbarrier_init();
  }
  ptx::cluster_sync();
  ptx::grid_dependency_wait();  // every role: the others read b1 and w2 and overwrite r_part

  Ring<T::kStages> ring;
  if (warp < 4) {  // ---- copies: one thread; warps 1 to 3 only give their registers away
    ptx::setmaxnreg_dec<40>();
    if (warp == 0 && ptx::elect_one()) {
      for (int group = first; group < groups; group += step_groups) {
        const int split = group / p.tiles, tile = group % p.tiles;
        const int row0 = (tile / p.tiles_n * T::kCluster + rank) * T::kRows, unit0 = tile % p.tiles_n * T::kUnits;
        const int end = split_begin(split + 1);
        for (int step = split_begin(split); step < end; ++step, ring.advance()) {
          ptx::mbar_wait(empty + 8 * ring.slot, ring.phase ^ 1);
          const Pass pass = p.passes.pass[step / pass_steps];
          const int column = step % pass_steps * T::kColumns;
          const uint32_t bar = full + 8 * ring.slot, to = shared + ring.slot * T::kStageBytes;
          ptx::mbar_expect_tx(bar, T::kStageBytes);
          ptx::tma_load_2d(to, &p.x[pass.a], bar, column, row0);
          ptx::tma_load_2d_multicast(to + T::kXBytes + rank * (T::kW1Bytes / 2), &p.w1[pass.b], bar, column,
                                     unit0 + 128 * rank, 3);
        }
      }
    }
  } else {  // ---- products
    ptx::setmaxnreg_inc<232>();
    const uint32_t warpgroup = warp / 4 - 1;
    const auto release = [&](uint32_t slot) {  // to both blocks' copying threads
      if (thread % 128 < T::kCluster) ptx::mbar_arrive_remote(empty + 8 * slot, thread % 128);
    };
    for (int group = first; group < groups; group += step_groups) {
      const int split = group / p.tiles, tile = group % p.tiles;
      const int tile_n = tile % p.tiles_n, steps = split_begin(split + 1) - split_begin(split);
      const int row = (tile / p.tiles_n * T::kCluster + rank) * T::kRows + static_cast<int>(warpgroup * 64 + warp % 4 * 16);
      float z[128];
      RH_UNROLL for (int i = 0; i < 128; ++i) z[i] = 0.0f;
      uint32_t previous = 0;
      for (int step = 0; step < steps; ++step, ring.advance()) {
        ptx::mbar_wait(full + 8 * ring.slot, ring.phase);
        const uint32_t stage = shared + ring.slot * T::kStageBytes;
        const uint64_t x = ptx::smem_desc_sw128(stage + warpgroup * (T::kXBytes / 2), 16, 1024);
        const uint64_t w1 = ptx::smem_desc_sw128(stage + T::kXBytes, 16, 1024);
        ptx::wgmma_fence();
        RH_UNROLL for (int k = 0; k < 4; ++k) ptx::wgmma_m64n256k16_ss<kInput, 0, 0>(z, x + 2 * k, w1 + 2 * k);
        ptx::wgmma_commit();
        ptx::wgmma_wait<1>();  // the stage before has been read
        if (step > 0) release(previous);
        previous = ring.slot;
      }
      ptx::wgmma_wait<0>();
      if (steps > 0) release(previous);

      RH_UNROLL for (int c = 0; c < 4; ++c) {  // 64 units each
        const int unit_block = tile_n * 4 + c;
        if (unit_block >= p.output.unit_blocks) break;
        float block[1][8][4];
        RH_UNROLL for (int j = 0; j < 8; ++j) {
          RH_UNROLL for (int e = 0; e < 4; ++e) block[0][j][e] = z[32 * c + 4 * j + e];
        }
        keep_block(p, block, split, row, unit_block);
      }
    }
  }
  ptx::grid_dependency_launch();
  ptx::cluster_sync();  // no block leaves while its peer may still arrive on its barriers
}

}  // namespace rewardhead::kernels::cuda::sm90
