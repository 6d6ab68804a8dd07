// SPDX-License-Identifier: Apache-2.0
//
// hardware.h for compute capability 9.0.
#define RH_SM90A 1
#include "tests/cuda/hardware.h"

#include <cuda.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"

namespace rewardhead::kernels::cuda::testing {
namespace {

using EncodeTiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                                 const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                                 CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

// A matrix of halves in boxes, by the function that the driver has for it.
cudaError_t make_map(ptx::TensorMap& map, const uint16_t* data, cuuint64_t columns, cuuint64_t rows, cuuint64_t stride,
                     cuuint32_t box_rows) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  if (const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                                 cudaEnableDefault, &found)) {
    return error;
  }
  if (!function) return cudaErrorSymbolNotFound;
  const cuuint64_t sizes[] = {columns, rows}, strides[] = {2 * stride};
  const cuuint32_t box[] = {64, box_rows}, steps[] = {1, 1};
  CUtensorMap made;
  const CUresult result = reinterpret_cast<EncodeTiled>(function)(
      &made, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<uint16_t*>(data), sizes, strides, box, steps,
      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_NONE,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) return cudaErrorInvalidValue;
  map = __builtin_bit_cast(ptx::TensorMap, made);
  return cudaSuccess;
}

// Not for ever: a wrong assumption is to fail, not to hang. Nobody needs another thread to go on: a barrier of threads
// comes before.
RH_DEVICE bool completes(uint32_t bar) {
  for (int i = 0; i < 10'000; ++i) {
    if (ptx::mbar_try_wait(bar, 0)) return true;
  }
  return false;
}
RH_DEVICE void init_barrier(uint32_t bar) {
  if (ptx::thread_index() == 0) {
    ptx::mbar_init(bar, 1);
    ptx::fence_mbarrier_init();
  }
}

struct CopyParameters {
  ptx::TensorMap map;
  uint32_t* out;  // [blocks][512]
};
constexpr uint32_t kBoxBytes = 2048;

RH_DEVICE void copy_out(uint32_t* out, uint32_t shared, bool complete) {
  for (uint32_t i = ptx::thread_index(); i < kBoxBytes / 4; i += 32) {
    ptx::stg32(out + i, complete ? ptx::lds32(shared + 4 * i) : kNotComplete);
  }
}

RH_KERNEL(32, 1) box(RH_GRID_CONST const CopyParameters p) {
  const uint32_t shared = ptx::smem_base(), bar = shared + kBoxBytes;
  init_barrier(bar);
  ptx::syncthreads();
  if (ptx::thread_index() == 0) {
    ptx::mbar_expect_tx(bar, kBoxBytes);
    ptx::tma_load_2d(shared, &p.map, bar, 16, 8);
  }
  ptx::syncthreads();
  copy_out(p.out, shared, completes(bar));
}

RH_KERNEL(32, 1) multicast(RH_GRID_CONST const CopyParameters p) {
  const uint32_t shared = ptx::smem_base(), bar = shared + kBoxBytes, rank = ptx::cluster_rank();
  init_barrier(bar);
  ptx::cluster_sync();
  if (ptx::thread_index() == 0) {
    ptx::mbar_expect_tx(bar, kBoxBytes);
    ptx::tma_load_2d_multicast(shared + kBoxBytes / 2 * rank, &p.map, bar, 0, static_cast<int>(8 * rank), 3);
  }
  ptx::cluster_sync();
  copy_out(p.out + kBoxBytes / 4 * ptx::block_index(), shared, completes(bar));
  ptx::cluster_sync();
}

struct ArrivalParameters {
  uint32_t* out;
};
RH_KERNEL(32, 1) remote_arrival(RH_GRID_CONST const ArrivalParameters p) {
  const uint32_t bar = ptx::smem_base();
  init_barrier(bar);
  ptx::cluster_sync();
  if (ptx::thread_index() == 0) ptx::mbar_arrive_remote(bar, ptx::cluster_rank() ^ 1);
  ptx::cluster_sync();
  const uint32_t arrived = completes(bar) ? 1 : kNotComplete;
  ptx::stg32(p.out + 32 * ptx::block_index() + ptx::thread_index(), arrived);
  ptx::cluster_sync();
}

struct WgmmaParameters {
  ptx::TensorMap a, b;
  const uint16_t* fragments;
  uint32_t* out;
  uint32_t leading, stride, k16_bytes;
};
constexpr uint32_t kABytes = 64 * 64 * 2, kBBytes = 64 * 128 * 2;

template <bool kAInRegisters, int kTransB>
RH_KERNEL(128, 1) wgmma(RH_GRID_CONST const WgmmaParameters p) {
  const uint32_t thread = ptx::thread_index(), a = ptx::smem_base(), b = a + kABytes, bar = b + kBBytes;
  init_barrier(bar);
  ptx::syncthreads();
  if (thread == 0) {
    ptx::mbar_expect_tx(bar, (kAInRegisters ? 0 : kABytes) + kBBytes);
    if constexpr (!kAInRegisters) ptx::tma_load_2d(a, &p.a, bar, 0, 0);
    if constexpr (kTransB) {  // 64 columns to a box
      ptx::tma_load_2d(b, &p.b, bar, 0, 0);
      ptx::tma_load_2d(b + kBBytes / 2, &p.b, bar, 64, 0);
    } else {  // 64 k to a box
      ptx::tma_load_2d(b, &p.b, bar, 0, 0);
      ptx::tma_load_2d(b + kBBytes / 2, &p.b, bar, 0, 64);
    }
  }
  ptx::syncthreads();
  const bool complete = completes(bar);
  float d[64];
  RH_UNROLL for (float& v : d) v = 0;
  uint32_t fragments[4][4] = {};
  if constexpr (kAInRegisters) {
    RH_UNROLL for (uint32_t k = 0; k < 4; ++k) {
      const uint16_t* const from = p.fragments + 8 * (128 * k + thread);
      RH_UNROLL for (uint32_t i = 0; i < 4; ++i) fragments[k][i] = ptx::ldg32(from + 2 * i);
    }
  }
  const uint64_t a_at = ptx::smem_desc_sw128(a, 16, 1024), b_at = ptx::smem_desc_sw128(b, p.leading, p.stride);
  ptx::wgmma_fence();
  RH_UNROLL for (uint32_t k = 0; k < 4; ++k) {
    const uint64_t b_k = b_at + k * (p.k16_bytes >> 4);
    if constexpr (kAInRegisters) {
      ptx::wgmma_m64n128k16_rs<ptx::Input::bf16, kTransB>(d, fragments[k], b_k);
    } else {
      ptx::wgmma_m64n128k16_ss<ptx::Input::bf16, 0, kTransB>(d, a_at + 2 * k, b_k);
    }
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  RH_UNROLL for (uint32_t i = 0; i < 64; ++i) {
    ptx::stg32(p.out + 64 * thread + i, complete ? __builtin_bit_cast(uint32_t, d[i]) : kNotComplete);
  }
}

struct BudgetParameters {
  const uint32_t* in;
  uint32_t* out;
};
RH_KERNEL(384, 1) register_budget(RH_GRID_CONST const BudgetParameters p) {
  if (ptx::uniform(ptx::thread_index() / 128) == 0) {
    ptx::setmaxnreg_dec<40>();
    return;
  }
  ptx::setmaxnreg_inc<232>();
  const uint32_t thread = ptx::thread_index() - 128;
  uint32_t values[kLiveRegisters];
  RH_UNROLL for (int i = 0; i < kLiveRegisters; ++i) values[i] = ptx::ldg32(p.in + 256 * i + thread);
  ptx::named_barrier(1, 256);  // all of them live
  uint32_t sum = 0;
  RH_UNROLL for (int i = 0; i < kLiveRegisters; ++i) sum += static_cast<uint32_t>(i + 1) * values[i];
  ptx::stg32(p.out + thread, sum);
}

}  // namespace

cudaError_t run_box(const uint16_t* in, uint32_t* out, cudaStream_t stream) {
  CopyParameters p = {{}, out};
  if (const cudaError_t error = make_map(p.map, in, 72, 20, 96, 16)) return error;
  return launch(box, {1, 32, kBoxBytes + 8}, p, stream);
}

cudaError_t run_multicast(const uint16_t* in, uint32_t* out, cudaStream_t stream) {
  CopyParameters p = {{}, out};
  if (const cudaError_t error = make_map(p.map, in, 64, 16, 64, 8)) return error;
  return launch(multicast, {2, 32, kBoxBytes + 8, 2}, p, stream);
}

cudaError_t run_remote_arrival(uint32_t* out, cudaStream_t stream) {
  return launch(remote_arrival, {2, 32, 8, 2}, ArrivalParameters{out}, stream);
}

cudaError_t run_wgmma(const WgmmaFact& fact, const uint16_t* a, const uint16_t* b, uint32_t* out, cudaStream_t stream) {
  WgmmaParameters p = {{}, {}, a, out, fact.leading, fact.stride, fact.k16_bytes};
  if (!fact.a_in_registers) {
    if (const cudaError_t error = make_map(p.a, a, 64, 64, 64, 64)) return error;
  }
  const cuuint64_t columns = fact.b_columns_contiguous ? 128 : 64, rows = fact.b_columns_contiguous ? 64 : 128;
  if (const cudaError_t error = make_map(p.b, b, columns, rows, columns, 64)) return error;
  void (*const kernels[2][2])(WgmmaParameters) = {{wgmma<false, 0>, wgmma<false, 1>}, {wgmma<true, 0>, wgmma<true, 1>}};
  return launch(kernels[fact.a_in_registers][fact.b_columns_contiguous], {1, 128, kABytes + kBBytes + 8}, p, stream);
}

cudaError_t run_register_budget(const uint32_t* in, uint32_t* out, cudaStream_t stream) {
  return launch(register_budget, {1, 384}, BudgetParameters{in, out}, stream);
}

}  // namespace rewardhead::kernels::cuda::testing
