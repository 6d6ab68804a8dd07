// SPDX-License-Identifier: Apache-2.0
//
// From the sums of a masked product, as matrix instructions leave them, to what the backward keeps. Shared by the main
// loops of sm80/ and sm90/.
#pragma once

#include "kernels/cuda/mask.h"
#include "kernels/cuda/scalar.h"

namespace rewardhead::kernels::cuda {

struct MaskedOutput {
  int rows, columns;  // rows of dW1: units of all members, each member's from a multiple of 64 on
  float* out;         // dW1: [members, hidden, columns]; dX: [rows, out_stride]
  int64_t out_stride;
  bool vectors;          // rows of `out` are aligned to 8 bytes
  const float* unscale;  // of v: [members]
  // Of dX.
  const float* row_scale;  // dr: [members, rows]
  // Of dW1.
  const float* w1;  // [members, hidden, columns]
  const float* w2;  // [members, hidden]
  int hidden, member_blocks;
  float* dot_part;      // [parts of columns, rows]
  float* g;             // [splits, rows]
  float* parts;         // [splits, rows, part_stride] where the sum is split, and then nothing else but g is written
  int64_t part_stride;  // columns up to whole tiles
};

// One row of a tile: this lane's pairs of columns column + 8 j, + 1; a quad of lanes has the row's. turn: of dW1 the
// part of the sum, of dX the member, whose predecessors' sums the row holds. dot_index: which part of the columns this
// is. g: sum of bit v of the row, where has_g.
template <bool kRowsAreUnits, int kPairs>
RH_DEVICE void finish_row(const MaskedOutput& p, int turn, int row, int column, int dot_index, bool has_g, float g,
                          const float (&x)[kPairs], const float (&y)[kPairs]) {
  const bool is_first = ptx::thread_index() % 4 == 0;
  if constexpr (kRowsAreUnits) {
    if (has_g && is_first && row < p.rows) ptx::stg32f(p.g + int64_t{turn} * p.rows + row, g);
    if (p.parts) {
      if (row >= p.rows) return;
      float* const to = p.parts + (int64_t{turn} * p.rows + row) * p.part_stride + column;
      RH_UNROLL for (int j = 0; j < kPairs; ++j) ptx::stg64f(to + 8 * j, x[j], y[j]);
      return;
    }
  }
  const int block = row / 64, member = kRowsAreUnits ? block / p.member_blocks : turn;
  const int own = kRowsAreUnits ? row - member * p.member_blocks * 64 : row;  // among its member's units
  const bool live = row < p.rows && (!kRowsAreUnits || own < p.hidden);
  const int out_row = kRowsAreUnits ? member * p.hidden + own : row;
  const float* const scales = kRowsAreUnits ? p.w2 + out_row : p.row_scale + int64_t{member} * p.rows + row;
  const float scale = live ? ptx::ldg32f(scales) * ptx::ldg32f(p.unscale + member) : 0.0f;
  float dot = 0;
  RH_UNROLL for (int j = 0; j < kPairs; ++j) {
    const int k = column + 8 * j;
    if (!live || k >= p.columns) continue;
    const bool second = k + 1 < p.columns;
    if constexpr (kRowsAreUnits) {
      const float* const w1 = p.w1 + int64_t{out_row} * p.columns + k;
      dot = fmaf(x[j], ptx::ldg32f(w1), dot);
      if (second) dot = fmaf(y[j], ptx::ldg32f(w1 + 1), dot);
    }
    float* const to = p.out + out_row * p.out_stride + k;
    const bool adds = !kRowsAreUnits && member > 0;
    if (p.vectors && second && !adds) {
      ptx::stg64f(to, scale * x[j], scale * y[j]);
    } else {
      ptx::stg32f(to, adds ? fmaf(scale, x[j], ptx::ldg32f(to)) : scale * x[j]);
      if (second) ptx::stg32f(to + 1, adds ? fmaf(scale, y[j], ptx::ldg32f(to + 1)) : scale * y[j]);
    }
  }
  if constexpr (kRowsAreUnits) {
    dot += ptx::shfl_xor(dot, 1);
    dot += ptx::shfl_xor(dot, 2);
    if (is_first && row < p.rows) ptx::stg32f(p.dot_part + int64_t{dot_index} * p.rows + row, dot);
  }
}

// With plane `b_plane` of B go so many planes of v (planes.h).
RH_DEVICE int v_planes_with(int b_planes, int v_planes, int b_plane) {
  const int most = (b_planes > v_planes ? b_planes : v_planes) - b_plane;
  return v_planes < most ? v_planes : most;
}

}  // namespace rewardhead::kernels::cuda
