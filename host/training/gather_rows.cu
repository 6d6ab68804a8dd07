// SPDX-License-Identifier: Apache-2.0
//
// A mini-batch's rows, copied from wherever they lie in X. A thread moves 16 bytes; a row has whole blocks of its own.
//
// Bound (prediction): memory, each element read and written once.
#include "host/training/gather_rows.h"

#include "kernels/cuda/launch.h"

namespace rewardhead::training {
namespace {

constexpr int kThreads = 256, kFloats = 4;  // of a thread

struct GatherParameters {
  const float* from;
  const int32_t* rows;
  float* to;
  int64_t stride;
  uint32_t blocks;  // of a row
};

RH_KERNEL(kThreads, 1) copy_row(RH_GRID_CONST const GatherParameters p) {
  const uint32_t row = ptx::block_index() / p.blocks;
  const int64_t column = kFloats * (int64_t{ptx::block_index() % p.blocks} * kThreads + ptx::thread_index());
  if (column >= p.stride) return;
  const int64_t source = static_cast<int32_t>(ptx::ldg32(p.rows + row));
  ptx::stg128(p.to + row * p.stride + column, ptx::ldg128(p.from + source * p.stride + column));
}

}  // namespace

cudaError_t gather_rows(const float* from, const int32_t* rows, int64_t count, int64_t stride, float* to,
                        cudaStream_t stream) {
  const int64_t blocks = kernels::cuda::ceil_divide(stride, kFloats * kThreads);
  const GatherParameters parameters = {from, rows, to, stride, static_cast<uint32_t>(blocks)};
  return kernels::cuda::launch(copy_row, {count * blocks, kThreads}, parameters, stream);
}

}  // namespace rewardhead::training
