// SPDX-License-Identifier: Apache-2.0
//
// The ReLU mask on a device: one bit for each element of z [rows, units], in the order in which the accumulators of
// mma.sync m16n8k16 and of wgmma hold it.
//
// A block is 16 rows (m) x 64 units (h): 32 words, one for each lane. Lane 4 g + q holds rows g, g + 8 and columns
// 8 j + 2 q, + 1, and stores their bits: no ballot, no shuffle. Element (m, h) of a block, j = h/8, e = 2 (m/8) + h%2:
//   lane = 4 (m%8) + (h%8)/2        bit = 8 (2 (j%2) + m/8) + 2 (j/2) + h%2
//
// Read as the A operand of m16k16, with words w0, w1 such that bit 8X + 2f of w0 (w1) belongs to the even (odd) k of
// register pair X of fragment f, a fragment costs 2 shifts, 4 byte permutes with sign replication, and 4 ANDs:
//   dX   rows m, k = h: w0 = the lane's own word, w1 = w0 >> 1; f the k16 among the 64 columns; register i takes X = i
//   dW1  rows h, k = m: w0 = word of lane 8 q + g/2, w1 = that of lane 8 q + 4 + g/2, both >> g%2;
//                       f the h16 among the 64 columns; register i takes X = {0, 2, 1, 3}[i]
//
// Blocks lie [units / 64][rows / 16], rows up to multiples of 256 and units up to multiples of 256: what the backward
// tiles fetch is contiguous. Bits of rows and units that do not exist are anything: they meet zeros, or are not stored.
#pragma once

#include <cstdint>

#include "kernels/cuda/ptx.h"

namespace rewardhead::kernels::cuda {

constexpr int kMaskBlockWords = 32, kMaskBlockBytes = 128, kMaskBlockRows = 16, kMaskBlockUnits = 64;

// The left operand of a masked product: v[k] where the bit of (row, k) is set, else 0.
struct MaskedOperand {
  const uint32_t* mask;
  int mask_row_blocks;
  int members;        // dX: whose sums a block adds, one after another, each over its own units; dW1: 1
  const uint16_t* v;  // [members of the head][planes][v_stride]; zeros past k
  int64_t v_stride;   // k up to a multiple of 64
  int v_planes;
};

RH_DEVICE constexpr uint32_t mask_bit(int j, int e) { return 8 * (2 * (j & 1) + (e >> 1)) + 2 * (j >> 1) + (e & 1); }

// Fragment `fragment` of the operand whose element (row, k) is v[k] where the bit is set, else 0. v_low: v of k = 2 q,
// 2 q + 1; v_high: of k = 2 q + 8, + 9. kRowsAreUnits: dW1.
template <bool kRowsAreUnits>
RH_DEVICE void expand_mask(uint32_t (&a)[4], uint32_t w0, uint32_t w1, uint32_t fragment, uint32_t v_low,
                           uint32_t v_high) {
  const uint32_t shift = 7 - 2 * fragment;
  const uint32_t u0 = w0 << shift, u1 = w1 << shift;
  const uint32_t x0 = ptx::prmt<0xcc88>(u0, u1), x1 = ptx::prmt<0xdd99>(u0, u1);
  const uint32_t x2 = ptx::prmt<0xeeaa>(u0, u1), x3 = ptx::prmt<0xffbb>(u0, u1);
  a[0] = x0 & v_low;                          // row g
  a[1] = (kRowsAreUnits ? x2 : x1) & v_low;   // row g + 8
  a[2] = (kRowsAreUnits ? x1 : x2) & v_high;  // row g
  a[3] = x3 & v_high;                         // row g + 8
}

}  // namespace rewardhead::kernels::cuda
