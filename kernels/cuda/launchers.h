// SPDX-License-Identifier: Apache-2.0
//
// What the runtime calls: one function for each operation, with the argument structs of the CPU's table, whose pointers
// are device pointers here. Each enqueues its kernels on the caller's stream and returns; none allocates, synchronises
// or reads anything back, so all can be captured in a graph, which then holds the pointers. A returned error is that of
// a launch. Arguments have been validated, except for what lies on the device: bad pairs are skipped and flagged.
//
// Each workspace function is computed by the code that carves the workspace, takes the largest sizes of any call, and
// returns a multiple of kAlignment. Workspaces are aligned to 256 bytes, as cudaMalloc aligns; contents never matter.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/cublaslt.h"
#include "kernels/kernel_table.h"

namespace rewardhead::kernels::cuda {

// ---- pair_loss.cu: semantics of kernels/cpu/pair_loss.h

// Pairs fewer than 2^31. *bad_pairs, unless null, becomes 1 if a pair names a row outside [0, rows) or twice the same;
// such pairs count as absent. Nobody sets it to 0 but the caller.
size_t pair_loss_workspace(int64_t rows, int64_t pairs, int64_t members);
cudaError_t pair_loss(const PairLossArguments& arguments, uint32_t* bad_pairs, void* workspace, cudaStream_t stream);

// ---- adamw.cu: semantics of kernels/cpu/adamw.h, and the global norm of each member's gradients

struct AdamwStep {
  HeadTensors<float> parameters, gradients, first_moments, second_moments;  // [members, ...]; gradients are only read
  int64_t input, hidden, members;  // hidden 0: w1 [members, input] alone
  double learning_rate, beta1, beta2, epsilon, weight_decay;
  double clip_norm;      // 0: never
  int64_t step;          // from 1; a graph replays the step that it captured
  float* gradient_norm;  // [members] before clipping, or null
};
size_t adamw_workspace(int64_t input, int64_t hidden, int64_t members);
cudaError_t adamw(const AdamwStep& step, void* workspace, cudaStream_t stream);

// ---- linear.cu: the head without hidden units, of one or more members; dX of one only

cudaError_t linear_forward(const ForwardArguments& arguments, cudaStream_t stream);
size_t linear_workspace(int64_t rows, int64_t input, int64_t members);
cudaError_t linear_backward(const BackwardArguments& arguments, void* workspace, cudaStream_t stream);
// Both and the pair loss where pairs are rows (2i, 2i + 1): the same bits, X is read once if its rows are aligned to 16
// bytes and not too long.
size_t linear_step_workspace(int64_t rows, int64_t input, int64_t pairs, int64_t members);
cudaError_t linear_step(const ForwardArguments& forward, const PairLossArguments& pairs,
                        const BackwardArguments& backward, void* workspace, cudaStream_t stream);

// ---- mlp_forward.cu, mlp_backward.cu: the head with hidden units, of one or more members

// What fixes every tile, split and order of summation: results are the same bits for the same plan, and a row's reward
// does not depend on the rows scored with it.
struct MlpPlan {
  int64_t rows;  // the most of any call; rows, members * hidden rounded up to 64, and input below 2^31
  int64_t input;
  int64_t hidden;
  int64_t members;
  Dtype dtype;
  // The accuracy of products, in 16-bit planes of an operand (planes.h), as a bound relative to the sum of magnitudes.
  // 1: W1, w2 and dr are rounded to the type of X, and X in fp32 to bfloat16: 2^-7, for binary16 2^-10.
  // 2: 3 2^-16 at worst, 4e-7 on random data. 3: as fp32, at twice the time (prediction) of 2 if X is fp32.
  int planes;
  bool input_gradient;
  int multiprocessors;  // of the device
  bool wgmma;           // its compute capability is 9.0: the kernels of sm90/, else those of sm80/
  // Into how many parts the sums over columns and, of dW1, over rows are split, a power of two; 0: what the cost model
  // (README.md) finds.
  int forward_splits = 0, w1_splits = 0;
};

// What the plan says or, where it is 0, the model; and the most that there are steps for.
int forward_splits(const MlpPlan& plan);
int most_forward_splits(const MlpPlan& plan);
int w1_splits(const MlpPlan& plan);
int most_w1_splits(const MlpPlan& plan);

// Bytes of the mask that a forward writes and a backward reads. In the argument structs it goes under the CPU's type.
size_t mlp_mask_bytes(const MlpPlan& plan);
size_t mlp_forward_workspace(const MlpPlan& plan);
cudaError_t mlp_forward(const MlpPlan& plan, const ForwardArguments& arguments, void* workspace, cudaStream_t stream);
size_t mlp_backward_workspace(const MlpPlan& plan);
cudaError_t mlp_backward(const MlpPlan& plan, const BackwardArguments& arguments, void* workspace, cudaStream_t stream);

// ---- composed.cu: the same head, composed of cuBLASLt's products and small kernels

// One algorithm for each product, so that sums have one order whatever the number of rows; dW1 and dX, which the caller
// may have put anywhere, have another for where they are not aligned to 16 bytes.
struct ComposedPlan {
  MlpPlan mlp;  // planes 2 or 3; multiprocessors and wgmma are not used
  const cublaslt::Library* library;
  cublaslt::Algorithm forward, w1_gradient[2], input_gradient[2];  // [1]: not aligned
  size_t product_workspace;                                        // of the algorithm that needs most
};

// Asks cuBLASLt for the algorithms; input_gradient[] only if mlp.input_gradient says so. Its status, or success.
int choose_algorithms(const MlpPlan& mlp, const cublaslt::Library& library, ComposedPlan& plan);
// Bytes of z, which a forward leaves under the mask's name for a backward; a forward alone needs them, too.
size_t composed_mask_bytes(const ComposedPlan& plan);
size_t composed_workspace(const ComposedPlan& plan);  // of either call
cudaError_t composed_forward(const ComposedPlan& plan, const ForwardArguments& arguments, void* workspace,
                             cudaStream_t stream);
cudaError_t composed_backward(const ComposedPlan& plan, const BackwardArguments& arguments, void* workspace,
                              cudaStream_t stream);

}  // namespace rewardhead::kernels::cuda
