// SPDX-License-Identifier: Apache-2.0
//
// From z = X W1^T, as matrix instructions leave it, to what the forward keeps: per row and 64 hidden units one partial
// sum of relu(z + b1) w2, and the mask's word of each lane (mask.h). Shared by the main loops and by the kernel that adds
// the parts of a split sum.
#pragma once

#include "kernels/cuda/mask.h"
#include "kernels/cuda/scalar.h"

namespace rewardhead::kernels::cuda {

// Hidden units lie in blocks of 64, each of one member; a member's last block may be partly empty.
struct HeadOutput {
  const float* b1;  // [members, hidden]
  const float* w2;  // [members, hidden]
  float* r_part;    // [unit blocks, rows]
  uint32_t* mask;   // null: not kept
  int rows, hidden;
  int member_blocks, unit_blocks;  // of one member, of all
  int mask_row_blocks;
};

// What becomes of z: the epilogue, or parts of it where its sum is split.
struct ForwardResult {
  int splits;
  float* z;  // [splits][rows][64 unit_blocks], null unless splits > 1
  HeadOutput output;
};

// A row of part `split` of z, in unit block `block`: this lane's columns, + 8 j, + 1.
RH_DEVICE float* z_row(const ForwardResult& p, int split, int row, int block) {
  const int64_t own = (int64_t{split} * p.output.rows + row) * p.output.unit_blocks + block;
  return p.z + own * 64 + ptx::thread_index() % 4 * 2;
}

// kBlocks blocks of 16 rows one below the other, from row `row` on, of unit block `block`. z without the bias; lane
// 4 g + q holds rows g, g + 8 and columns 8 j + 2 q, + 1.
template <int kBlocks>
RH_DEVICE void finish_block(const HeadOutput& p, const float (&z)[kBlocks][8][4], int row, int block) {
  const uint32_t lane = ptx::thread_index() % 32, g = lane / 4, q = lane % 4;
  const int member = block / p.member_blocks, first = block % p.member_blocks * 64;
  float r[kBlocks][2] = {};
  uint32_t word[kBlocks] = {};
  RH_UNROLL for (int j = 0; j < 8; ++j) {
    RH_UNROLL for (int c = 0; c < 2; ++c) {
      const int unit = first + 8 * j + 2 * static_cast<int>(q) + c;
      const bool exists = unit < p.hidden;
      const float bias = exists ? ptx::ldg32f(p.b1 + member * p.hidden + unit) : 0.0f;
      const float weight = exists ? ptx::ldg32f(p.w2 + member * p.hidden + unit) : 0.0f;
      RH_UNROLL for (int i = 0; i < kBlocks; ++i) {
        RH_UNROLL for (int half = 0; half < 2; ++half) {
          const float sum = z[i][j][2 * half + c] + bias;
          const bool active = !(sum <= 0.0f);  // so that a NaN is not hidden
          r[i][half] = fmaf(active ? sum : 0.0f, weight, r[i][half]);
          if (active) word[i] |= 1u << mask_bit(j, 2 * half + c);
        }
      }
    }
  }
  RH_UNROLL for (int i = 0; i < kBlocks; ++i) {
    RH_UNROLL for (int half = 0; half < 2; ++half) {
      float sum = r[i][half];
      sum += ptx::shfl_xor(sum, 1);
      sum += ptx::shfl_xor(sum, 2);
      const int own = row + 16 * i + 8 * half + static_cast<int>(g);
      if (q == 0 && own < p.rows) ptx::stg32f(p.r_part + int64_t{block} * p.rows + own, sum);
    }
    const int row_block = row / 16 + i;
    if (p.mask && row_block < p.mask_row_blocks) {
      ptx::stg32(p.mask + (int64_t{block} * p.mask_row_blocks + row_block) * kMaskBlockWords + lane, word[i]);
    }
  }
}

// The same of part `split` of z, which is kept as it is where there are others.
template <int kBlocks>
RH_DEVICE void keep_block(const ForwardResult& p, const float (&z)[kBlocks][8][4], int split, int row, int block) {
  if (!p.z) return finish_block(p.output, z, row, block);
  RH_UNROLL for (int i = 0; i < kBlocks; ++i) {
    RH_UNROLL for (int half = 0; half < 2; ++half) {
      const int own = row + 16 * i + 8 * half + static_cast<int>(ptx::thread_index() % 32 / 4);
      if (own >= p.output.rows) continue;
      float* const to = z_row(p, split, own, block);
      RH_UNROLL for (int j = 0; j < 8; ++j) ptx::stg64f(to + 8 * j, z[i][j][2 * half], z[i][j][2 * half + 1]);
    }
  }
}

}  // namespace rewardhead::kernels::cuda
