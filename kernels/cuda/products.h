// SPDX-License-Identifier: Apache-2.0
//
// The two matrix products of the MLP head, as the launchers hand them to a family of kernels: sm80/ runs on every device
// from compute capability 8.0 on, sm90/ on 9.0 only.
#pragma once

#include "kernels/cuda/head_epilogue.h"
#include "kernels/cuda/masked_epilogue.h"
#include "kernels/cuda/planes.h"

namespace rewardhead::kernels::cuda {

// z = X W1^T, and the forward's epilogue, or parts of z.
struct ForwardProduct {
  Planes x, w1;
  bool half;
  int splits;
  float* z;  // [splits][rows][64 unit_blocks], null unless splits > 1
  HeadOutput output;
};

// sum_k bit(row, k) v[k] B[k, column], and the backward's epilogue. dW1: rows are units; dX: rows are rows of X.
struct MaskedProduct {
  bool rows_are_units;
  Planes b;  // rows: k
  bool half;
  const uint32_t* mask;
  int mask_row_blocks;
  int first_block;    // dX: unit block of the mask where k begins
  const uint16_t* v;  // dW1: [members][planes][v_stride]; dX: [planes][v_stride]; zeros past k
  int64_t v_stride;   // k up to a multiple of 64
  int v_planes;
  int splits;
  MaskedOutput output;
};

// What a family's tiles are, and how long one takes a step of its sum, alone on a multiprocessor. Predictions.
struct ProductTile {
  int rows, columns, step;
  double step_us;
};

namespace sm80 {
extern const ProductTile kForwardTile, kMaskedTile;
inline constexpr int kDotParts = 2;  // of a masked tile's columns
cudaError_t forward_product(const ForwardProduct& product, cudaStream_t stream);
cudaError_t masked_product(const MaskedProduct& product, cudaStream_t stream);
}  // namespace sm80

namespace sm90 {
extern const ProductTile kForwardTile, kMaskedTile;
inline constexpr int kDotParts = 1;
// At most as many blocks as there are multiprocessors; each goes on to further tiles.
cudaError_t forward_product(const ForwardProduct& product, int multiprocessors, cudaStream_t stream);
cudaError_t masked_product(const MaskedProduct& product, int multiprocessors, cudaStream_t stream);
}  // namespace sm90

}  // namespace rewardhead::kernels::cuda
