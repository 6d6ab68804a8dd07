// SPDX-License-Identifier: Apache-2.0
//
// Launchers of the matrix products for sm_80 and later.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/products.h"
#include "kernels/cuda/sm80/forward.h"
#include "kernels/cuda/sm80/masked_gemm.h"

namespace rewardhead::kernels::cuda::sm80 {

// 512 and, for each plane of v, 2,048 clocks of an A100's tensor cores at 1.41 GHz.
const ProductTile kForwardTile = {ForwardTile::kRows, ForwardTile::kUnits, ForwardTile::kColumns, 0.36};
const ProductTile kMaskedTile = {MaskedTile::kRows, MaskedTile::kColumns, MaskedTile::kK, 1.45};

cudaError_t forward_product(const ForwardProduct& product, cudaStream_t stream) {
  using Tile = ForwardTile;
  const Planes &x = product.x, &w1 = product.w1;
  ForwardParameters p = {};
  p.x = x.data;
  p.w1 = w1.data;
  p.x_plane = x.plane;
  p.w1_plane = w1.plane;
  p.x_stride = x.stride;
  p.w1_stride = w1.stride;
  p.passes = passes_of(x.planes, w1.planes);
  p.columns = static_cast<int>(x.columns);
  p.tiles_n = static_cast<int>(ceil_divide(w1.rows, Tile::kUnits));
  p.tiles = static_cast<int>(ceil_divide(x.rows, Tile::kRows)) * p.tiles_n;
  p.splits = product.splits;
  p.z = product.z;
  p.output = product.output;
  const LaunchShape shape = {int64_t{p.tiles} * p.splits, Tile::kThreads, Tile::kSharedBytes};
  return product.half ? launch(forward<ptx::Input::f16>, shape, p, stream)
                      : launch(forward<ptx::Input::bf16>, shape, p, stream);
}

cudaError_t masked_product(const MaskedProduct& product, cudaStream_t stream) {
  using Tile = MaskedTile;
  const Planes& b = product.b;
  MaskedGemmParameters p = {};
  p.b = b.data;
  p.b_plane = b.plane;
  p.b_stride = b.stride;
  p.b_planes = b.planes;
  p.v_planes = product.v_planes;
  p.mask = product.mask;
  p.mask_row_blocks = product.mask_row_blocks;
  p.first_block = product.first_block;
  p.v = product.v;
  p.v_stride = product.v_stride;
  p.k = static_cast<int>(b.rows);
  p.tiles_n = static_cast<int>(ceil_divide(b.columns, Tile::kColumns));
  p.tiles = static_cast<int>(ceil_divide(product.output.rows, Tile::kRows)) * p.tiles_n;
  p.splits = product.splits;
  p.output = product.output;
  const LaunchShape shape = {int64_t{p.tiles} * p.splits, Tile::kThreads, Tile::kSharedBytes};
  if (product.half) {
    return product.rows_are_units ? launch(masked_gemm<ptx::Input::f16, true>, shape, p, stream)
                                  : launch(masked_gemm<ptx::Input::f16, false>, shape, p, stream);
  }
  return product.rows_are_units ? launch(masked_gemm<ptx::Input::bf16, true>, shape, p, stream)
                                : launch(masked_gemm<ptx::Input::bf16, false>, shape, p, stream);
}

}  // namespace rewardhead::kernels::cuda::sm80
