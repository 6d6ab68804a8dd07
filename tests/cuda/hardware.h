// SPDX-License-Identifier: Apache-2.0
//
// What the kernels take the hardware to do, one small kernel each: what documentation says and no GPU has confirmed.
// The kernels copy what an instruction made of known operands to `out`; hardware_test.cpp says what that should be.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace rewardhead::kernels::cuda::testing {

// ---- hardware_sm80.cu: one warp; t is its thread
enum class WarpFact {
  prmt,            // in [2][32] words a, b; out [4][32]: the four permutations of expand_mask (kernels/cuda/mask.h)
  mma_bf16,        // in [32][4] fragment of A, [32][2] of B; out [32][4] floats of D = A B
  mma_f16,         //
  ldmatrix,        // in [4] matrices of 8 x 8 halves; out [32][4]
  ldmatrix_trans,  //
  cp_async,        // in 4 words; out [9][4]: 16 bytes of which the first 2 t are valid
};
cudaError_t run_warp_fact(WarpFact fact, const uint32_t* in, uint32_t* out, cudaStream_t stream);

// ---- hardware_sm90.cu. A barrier that does not complete leaves kNotComplete in all of the block's output.
inline constexpr uint32_t kNotComplete = 0xffffffff;

// in: 20 rows of 72 halves, 96 apart; out [2048 bytes]: shared memory after the copy of the box of 64 columns x 16
// rows at column 16, row 8, in the 128-byte swizzle.
cudaError_t run_box(const uint16_t* in, uint32_t* out, cudaStream_t stream);

// in: 16 rows of 64 halves; out [2 blocks][2048 bytes]: each block's shared memory, after block r of the cluster has
// sent the rows from 8 r on to both.
cudaError_t run_multicast(const uint16_t* in, uint32_t* out, cudaStream_t stream);

// out [2 blocks][32]: 1 where the thread's block has been arrived at by the other one.
cudaError_t run_remote_arrival(uint32_t* out, cudaStream_t stream);

// D [64 x 128] += A [64 x 64] B [64 x 128] in bfloat16, by a warpgroup; out [128 threads][64]: accumulators.
struct WgmmaFact {
  bool a_in_registers;        // else a [64][64] as it lies: K-major
  bool b_columns_contiguous;  // b [k 64][n 128], MN-major; else b [n 128][k 64], K-major
  uint32_t leading, stride;   // of B's descriptor, bytes
  uint32_t k16_bytes;         // from one k16 of B to the next
};
// a: [64][64], or fragments [4 k16][128 threads][4 words].
cudaError_t run_wgmma(const WgmmaFact& fact, const uint16_t* a, const uint16_t* b, uint32_t* out, cudaStream_t stream);

// 384 threads; the first warpgroup keeps 40 registers a thread, the others get 232 and use more than the launch gave.
// in [192][256], out [256]: sum over i of (i + 1) in[i][thread].
inline constexpr int kLiveRegisters = 192;
cudaError_t run_register_budget(const uint32_t* in, uint32_t* out, cudaStream_t stream);

}  // namespace rewardhead::kernels::cuda::testing
