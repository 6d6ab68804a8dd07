// SPDX-License-Identifier: Apache-2.0
//
// What the forward and the backward of the MLP head derive from their plan alike.
#pragma once

#include <algorithm>

#include "kernels/cuda/elements.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/planes.h"
#include "kernels/workspace.h"

namespace rewardhead::kernels::cuda {

// The hidden units of all members, each member's from a multiple of 64 on, so that a mask block has one member's.
struct MlpUnits {
  explicit MlpUnits(const MlpPlan& plan)
      : padded_hidden(round_up(plan.hidden, 64)),
        member_blocks(padded_hidden / 64),
        blocks(plan.members * member_blocks),
        units(blocks * 64) {}
  int64_t padded_hidden, member_blocks, blocks, units;
};

inline int64_t mask_row_blocks(int64_t rows) { return round_up(rows, 256) / 16; }

// Operands are binary16 only where X is and one plane is enough; its two planes of bfloat16 are exact.
inline bool is_half(const MlpPlan& plan) { return plan.dtype == Dtype::f16 && plan.planes == 1; }
inline int x_planes(const MlpPlan& plan) {
  if (plan.dtype == Dtype::bf16) return 1;
  return plan.dtype == Dtype::f16 ? std::min(plan.planes, 2) : plan.planes;
}
// X as it lies is an operand if its rows are aligned and its type is that of the products.
inline bool is_operand(const MlpPlan& plan, const Matrix& x) {
  return (plan.dtype == Dtype::bf16 || is_half(plan)) && has_aligned_rows<uint16_t>(x.data, x.stride);
}

// Room for the planes of X and of W1, and the kernels that fill it.
struct MlpOperands {
  uint16_t* x;
  uint16_t* w1;
  int64_t stride;

  static MlpOperands carve(Carver& carver, const MlpPlan& plan) {
    const int64_t stride = round_up(plan.input, 8);
    uint16_t* const x = carver.take<uint16_t>(x_planes(plan) * plan.rows * stride);
    uint16_t* const w1 = carver.take<uint16_t>(plan.planes * MlpUnits(plan).units * stride);
    return {x, w1, stride};
  }
  cudaError_t fill_x(const MlpPlan& plan, const Matrix& from, Planes& to, cudaStream_t stream) const {
    to = {x, from.rows, from.columns, stride, from.rows * stride, x_planes(plan)};
    if (is_operand(plan, from)) {
      to.data = static_cast<const uint16_t*>(from.data);
      to.stride = from.stride;
      return cudaSuccess;
    }
    return split_matrix({from, from.rows, from.rows, x, stride, x_planes(plan), is_half(plan)}, stream);
  }
  cudaError_t fill_w1(const MlpPlan& plan, const float* from, Planes& to, cudaStream_t stream) const {
    const MlpUnits units(plan);
    to = {w1, units.units, plan.input, stride, units.units * stride, plan.planes};
    const Matrix matrix = {from, Dtype::f32, plan.members * plan.hidden, plan.input, plan.input};
    return split_matrix({matrix, plan.hidden, units.padded_hidden, w1, stride, plan.planes, is_half(plan)}, stream);
  }
};

// A product whose sum may be split into parts: its tiles, the steps of a tile's sum, how long a multiprocessor takes
// for one, the elements of the result, and the most parts.
struct SplitSum {
  int64_t tiles, steps;
  double step_us;
  int64_t elements;
  int most;
};
// Numbers of parts are powers of two.
inline int most_splits(const SplitSum& s) {
  int splits = 1;
  while (2 * splits <= s.most && 2 * splits <= s.steps) splits *= 2;
  return splits;
}

// Into how many parts a sum is split, so that its tiles keep all multiprocessors busy. The least of waves * steps of a
// wave, each step_us, and what parts cost: a launch, and 8 bytes for each element, written and read through an L2 of
// 3 TB/s. Predictions, not measurements; what matters is that they depend on the plan alone.
inline int choose_split(const SplitSum& s, int multiprocessors) {
  constexpr double launch_us = 2;
  const double part_us = 8e-6 / 3 * static_cast<double>(s.elements);
  int best = 1;
  double best_us = 0;
  for (int splits = 1; splits <= most_splits(s); splits *= 2) {
    const double us =
        static_cast<double>(ceil_divide(s.tiles * splits, multiprocessors) * ceil_divide(s.steps, splits)) * s.step_us +
        (splits > 1 ? launch_us + splits * part_us : 0);
    if (splits == 1 || us < best_us) {
      best = splits;
      best_us = us;
    }
  }
  return best;
}

// db2 [members] = sums of the rows of reward_gradient [members, rows] (mlp_backward.cu).
cudaError_t sum_rows(const float* reward_gradient, int64_t members, int64_t rows, float* db2, cudaStream_t stream);

}  // namespace rewardhead::kernels::cuda
