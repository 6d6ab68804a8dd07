// SPDX-License-Identifier: Apache-2.0
//
// The two matrix products of the MLP head, as the launchers hand them to a family of kernels: sm80/ runs on every device
// from compute capability 8.0 on, sm90/ on 9.0 only.
#pragma once

#include "kernels/cuda/head_epilogue.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/masked_epilogue.h"
#include "kernels/cuda/planes.h"

namespace rewardhead::kernels::cuda {

// z = X W1^T, and the forward's epilogue, or parts of z.
struct ForwardProduct : ForwardResult {
  Planes x, w1;
  bool half;  // the type of operands: binary16, else bfloat16
};

// sum_k bit(row, k) v[k] B[k, column], and the backward's epilogue. dW1: rows are units; dX: rows are rows of X.
struct MaskedProduct : MaskedOperand {
  bool rows_are_units;
  Planes b;  // rows: k, of dX of all members
  bool half;
  int splits;
  MaskedOutput output;
};

// What a family's tiles are, and how long one takes a step of its sum, alone on a multiprocessor. Predictions.
struct ProductTile {
  int rows, columns, step;
  double step_us;
};

// What the kernels of both families are given beside the operands that they copy. Tiles: of columns, and of one split.
struct ForwardTiles : ForwardResult {
  Passes passes;
  int columns;
  int tiles_n, tiles;
};
inline ForwardTiles forward_tiles(const ForwardProduct& product, int tile_rows, int tile_units) {
  const int tiles_n = static_cast<int>(ceil_divide(product.w1.rows, tile_units));
  return {product, passes_of(product.x.planes, product.w1.planes), static_cast<int>(product.x.columns), tiles_n,
          static_cast<int>(ceil_divide(product.x.rows, tile_rows)) * tiles_n};
}

struct MaskedTiles : MaskedOperand {
  int b_planes, k;  // dX: of one member, a multiple of 64
  int tiles_n, tiles;
  int splits;
  MaskedOutput output;
};
inline MaskedTiles masked_tiles(const MaskedProduct& product, int tile_rows, int tile_columns) {
  const int tiles_n = static_cast<int>(ceil_divide(product.b.columns, tile_columns));
  return {product, product.b.planes, static_cast<int>(product.b.rows / product.members), tiles_n,
          static_cast<int>(ceil_divide(product.output.rows, tile_rows)) * tiles_n, product.splits, product.output};
}

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
