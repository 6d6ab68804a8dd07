// SPDX-License-Identifier: Apache-2.0
//
// hardware.h for every GPU that the kernels support.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"
#include "tests/cuda/hardware.h"

namespace rewardhead::kernels::cuda::testing {
namespace {

struct WarpParameters {
  const uint32_t* in;
  uint32_t* out;
};

RH_KERNEL(32, 1) prmt(RH_GRID_CONST const WarpParameters p) {
  const uint32_t t = ptx::thread_index(), a = ptx::ldg32(p.in + t), b = ptx::ldg32(p.in + 32 + t);
  ptx::stg32(p.out + t, ptx::prmt<0xcc88>(a, b));
  ptx::stg32(p.out + 32 + t, ptx::prmt<0xdd99>(a, b));
  ptx::stg32(p.out + 64 + t, ptx::prmt<0xeeaa>(a, b));
  ptx::stg32(p.out + 96 + t, ptx::prmt<0xffbb>(a, b));
}

template <ptx::Input kInput>
RH_KERNEL(32, 1) mma(RH_GRID_CONST const WarpParameters p) {
  const uint32_t t = ptx::thread_index();
  uint32_t a[4];
  RH_UNROLL for (uint32_t i = 0; i < 4; ++i) a[i] = ptx::ldg32(p.in + 4 * t + i);
  float d[4] = {};
  ptx::mma_m16n8k16<kInput>(d, a, ptx::ldg32(p.in + 128 + 2 * t), ptx::ldg32(p.in + 128 + 2 * t + 1));
  RH_UNROLL for (uint32_t i = 0; i < 4; ++i) ptx::stg32f(reinterpret_cast<float*>(p.out) + 4 * t + i, d[i]);
}

template <bool kTranspose>
RH_KERNEL(32, 1) load_matrices(RH_GRID_CONST const WarpParameters p) {
  const uint32_t t = ptx::thread_index(), shared = ptx::smem_base();
  RH_UNROLL for (uint32_t i = 0; i < 4; ++i) ptx::sts32(shared + 16 * t + 4 * i, ptx::ldg32(p.in + 4 * t + i));
  ptx::syncwarp();
  uint32_t r[4];
  if constexpr (kTranspose) {
    ptx::ldmatrix_x4_trans(r, shared + 16 * t);
  } else {
    ptx::ldmatrix_x4(r, shared + 16 * t);
  }
  RH_UNROLL for (uint32_t i = 0; i < 4; ++i) ptx::stg32(p.out + 4 * t + i, r[i]);
}

RH_KERNEL(32, 1) fill(RH_GRID_CONST const WarpParameters p) {
  const uint32_t t = ptx::thread_index(), to = ptx::smem_base() + 16 * t;
  if (t < 9) ptx::cp_async16(to, p.in, 2 * t);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  for (uint32_t i = 0; t < 9 && i < 4; ++i) ptx::stg32(p.out + 4 * t + i, ptx::lds32(to + 4 * i));
}

}  // namespace

cudaError_t run_warp_fact(WarpFact fact, const uint32_t* in, uint32_t* out, cudaStream_t stream) {
  void (*const kernels[])(WarpParameters) = {
      prmt, mma<ptx::Input::bf16>, mma<ptx::Input::f16>, load_matrices<false>, load_matrices<true>, fill};
  const LaunchShape shape = {1, 32, 512};
  return launch(kernels[static_cast<int>(fact)], shape, WarpParameters{in, out}, stream);
}

}  // namespace rewardhead::kernels::cuda::testing
