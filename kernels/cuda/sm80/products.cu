// SPDX-License-Identifier: Apache-2.0
//
// Launchers of the matrix products for sm_80 and later.
#include "kernels/cuda/sm80/forward.h"
#include "kernels/cuda/sm80/masked_gemm.h"

namespace rewardhead::kernels::cuda::sm80 {

// 512 and, for each plane of v, 2,048 clocks of an A100's tensor cores at 1.41 GHz.
const ProductTile kForwardTile = {ForwardTile::kRows, ForwardTile::kUnits, ForwardTile::kColumns, 0.36};
const ProductTile kMaskedTile = {MaskedTile::kRows, MaskedTile::kColumns, MaskedTile::kK, 1.45};

cudaError_t forward_product(const ForwardProduct& product, cudaStream_t stream) {
  using Tile = ForwardTile;
  const Planes &x = product.x, &w1 = product.w1;
  const ForwardParameters p = {forward_tiles(product, Tile::kRows, Tile::kUnits), x.data, w1.data, x.plane, w1.plane,
                               x.stride, w1.stride};
  const LaunchShape shape = {int64_t{p.tiles} * p.splits, Tile::kThreads, Tile::kSharedBytes};
  return with_input(product.half, [&](auto input) { return launch(forward<input>, shape, p, stream); });
}

cudaError_t masked_product(const MaskedProduct& product, cudaStream_t stream) {
  using Tile = MaskedTile;
  const Planes& b = product.b;
  const MaskedGemmParameters p = {masked_tiles(product, Tile::kRows, Tile::kColumns), b.data, b.plane, b.stride};
  const LaunchShape shape = {int64_t{p.tiles} * p.splits, Tile::kThreads, Tile::kSharedBytes};
  return with_input(product.half, [&](auto input) {
    return product.rows_are_units ? launch(masked_gemm<input, true>, shape, p, stream)
                                  : launch(masked_gemm<input, false>, shape, p, stream);
  });
}

}  // namespace rewardhead::kernels::cuda::sm80
