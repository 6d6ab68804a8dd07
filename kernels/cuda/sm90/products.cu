// SPDX-License-Identifier: Apache-2.0
//
// Launchers of the matrix products for sm_90a: tensor maps, and grids of persistent blocks.
#define RH_SM90A 1
#include <cuda.h>

#include <algorithm>

#include "kernels/cuda/sm90/forward.h"
#include "kernels/cuda/sm90/masked_gemm.h"

namespace rewardhead::kernels::cuda::sm90 {
namespace {

using EncodeTiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                                 const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                                 CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

// A function of the driver, which is asked for it by name so that nothing is linked with the driver.
cudaError_t find_encode(EncodeTiled& encode) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
  if (error) return error;
  if (!function) return cudaErrorSymbolNotFound;
  encode = reinterpret_cast<EncodeTiled>(function);
  return cudaSuccess;
}

// A map of each plane of `from`, in boxes of 64 columns (the 128 bytes of the swizzle) x box_rows.
cudaError_t make_maps(const Planes& from, bool half, cuuint32_t box_rows, ptx::TensorMap (&maps)[kMaxPlanes]) {
  EncodeTiled encode = nullptr;
  if (const cudaError_t error = find_encode(encode)) return error;
  for (int plane = 0; plane < from.planes; ++plane) {
    const cuuint64_t sizes[] = {static_cast<cuuint64_t>(from.columns), static_cast<cuuint64_t>(from.rows)};
    const cuuint64_t strides[] = {static_cast<cuuint64_t>(from.stride) * 2};
    const cuuint32_t box[] = {64, box_rows}, steps[] = {1, 1};
    CUtensorMap map;
    static_assert(sizeof map == sizeof maps[0]);
    const CUresult result = encode(
        &map, half ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2,
        const_cast<uint16_t*>(from.data + plane * from.plane), sizes, strides, box, steps,
        CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS) return cudaErrorInvalidValue;
    maps[plane] = __builtin_bit_cast(ptx::TensorMap, map);
  }
  return cudaSuccess;
}

}  // namespace

// 1,024 and, for each plane of v, 1,024 clocks of an H100's tensor cores at 1.83 GHz.
const ProductTile kForwardTile = {ForwardTile::kRows, ForwardTile::kUnits, ForwardTile::kColumns, 0.56};
const ProductTile kMaskedTile = {MaskedTile::kRows, MaskedTile::kColumns, MaskedTile::kK, 0.56};

cudaError_t forward_product(const ForwardProduct& product, int multiprocessors, cudaStream_t stream) {
  using Tile = ForwardTile;
  ForwardParameters p = {forward_tiles(product, Tile::kRows * Tile::kCluster, Tile::kUnits), {}, {}};
  if (const cudaError_t error = make_maps(product.x, product.half, 128, p.x)) return error;
  if (const cudaError_t error = make_maps(product.w1, product.half, 128, p.w1)) return error;
  const int64_t most = std::max(multiprocessors / Tile::kCluster, 1);
  const int64_t clusters = std::min(int64_t{p.tiles} * p.splits, most);
  const LaunchShape shape = {clusters * Tile::kCluster, Tile::kThreads, Tile::kSharedBytes, Tile::kCluster};
  return with_input(product.half, [&](auto input) { return launch(forward<input>, shape, p, stream); });
}

cudaError_t masked_product(const MaskedProduct& product, int multiprocessors, cudaStream_t stream) {
  using Tile = MaskedTile;
  MaskedGemmParameters p = {masked_tiles(product, Tile::kRows, Tile::kColumns), {}};
  if (const cudaError_t error = make_maps(product.b, product.half, 64, p.b)) return error;
  const int64_t blocks = std::min<int64_t>(int64_t{p.tiles} * p.splits, multiprocessors);
  const LaunchShape shape = {blocks, Tile::kThreads, Tile::kSharedBytes};
  return with_input(product.half, [&](auto input) {
    return product.rows_are_units ? launch(masked_gemm<input, true>, shape, p, stream)
                                  : launch(masked_gemm<input, false>, shape, p, stream);
  });
}

}  // namespace rewardhead::kernels::cuda::sm90
