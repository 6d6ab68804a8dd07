// SPDX-License-Identifier: Apache-2.0
//
// Operands of the matrix products, as 16-bit planes: x = x0 + x1 + x2 with x0 = x rounded, x1 = x - x0 rounded, ...
//
// bfloat16 has the exponents of fp32 and 8 bits of its 24, so three planes are x exactly, two carry 16 bits, and a
// binary16 value is two planes exactly. A product of two operands is the sum of the products of planes i and j with
// i + j below the number of planes, smallest first: 1, 3 or 6 passes over the same columns.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/kernel_table.h"

namespace rewardhead::kernels::cuda {

inline constexpr int kMaxPlanes = 3;
inline constexpr int kMaxPasses = 6;

// Planes [rows][stride] of 16-bit elements, rows aligned to 16 bytes; what lies between `columns` and stride is never read.
struct Planes {
  const uint16_t* data;
  int64_t rows, columns, stride;
  int64_t plane;  // elements from one plane to the next
  int planes;
};

// Which planes a pass multiplies.
struct Pass {
  int a, b;
};
struct Passes {
  int count;
  Pass pass[kMaxPasses];
};
inline Passes passes_of(int a_planes, int b_planes) {
  Passes passes = {};
  for (int sum = (a_planes > b_planes ? a_planes : b_planes) - 1; sum >= 0; --sum) {
    for (int a = a_planes - 1; a >= 0; --a) {
      if (sum - a >= 0 && sum - a < b_planes) passes.pass[passes.count++] = {a, sum - a};
    }
  }
  return passes;
}

// `to` = planes of `from`, bfloat16, or binary16 where `half` says so (then one plane). Where from.rows is members *
// member_rows, each member's rows start at a multiple of 64 in `to`, and the rows between are zeros.
struct SplitMatrix {
  Matrix from;
  int64_t member_rows;  // of `from`
  int64_t padded_rows;  // of `to`, of a member
  uint16_t* to;         // [planes][members * padded_rows][stride]
  int64_t stride;
  int planes;
  bool half;
};
cudaError_t split_matrix(const SplitMatrix& split, cudaStream_t stream);

// Vectors [members, count] to [members][planes][padded], zeros past `count`. For binary16 a member's vector is scaled
// by the power of two that brings its largest magnitude to 2^14, and unscale[member] is the inverse of that; else 1.
struct SplitVector {
  const float* from;
  int64_t members, count, padded;
  uint16_t* to;
  float* unscale;  // [members]
  int planes;
  bool half;
};
cudaError_t split_vector(const SplitVector& split, cudaStream_t stream);

}  // namespace rewardhead::kernels::cuda
