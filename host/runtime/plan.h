// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "host/runtime/context.h"
#include "kernels/kernel_table.h"
#include "rewardhead/rewardhead.h"

// Validated shapes and the size of the memory they need. Immutable.
struct rh_plan {
  rh_plan(const rh_context* context, const rh_plan_options& options);

  const rh_context* context;
  uint32_t operations;  // with what they imply
  rewardhead::kernels::Shape shape;
  rewardhead::kernels::Dtype dtype;
  size_t workspace_bytes;
  size_t mask_offset = 0, mask_bytes = 0;  // in the workspace; 0 without a mask

  // The mask outlives the call that wrote it; the scratch memory is whoever's turn it is.
  struct Workspace {
    uint32_t* bad_pairs;  // the flag of a GPU's pair loss; null on the CPU
    uint64_t* mask;
    void* scratch;
    size_t bytes;
  };
  Workspace carve(void* base) const;
};

namespace rewardhead::runtime {

// Each validates all of its arguments, throws ApiError before anything is written, and then runs the kernels.
void forward(const rh_plan& plan, const rh_matrix* x, const rh_tensors* parameters, float* rewards,
             rh_workspace workspace);
void pair_loss(const rh_plan& plan, const float* rewards, int64_t rows, const rh_pairs* pairs, double normalizer,
               float* loss, float* reward_gradient, rh_workspace workspace);
int bad_pairs(const rh_plan& plan, rh_workspace workspace);
void backward(const rh_plan& plan, const rh_matrix* x, const rh_tensors* parameters, const float* reward_gradient,
              const rh_tensors* gradients, float* input_gradient, int64_t input_gradient_stride,
              rh_workspace workspace);
void adamw(const rh_plan& plan, const rh_adamw_options* options, const rh_tensors* parameters,
           const rh_tensors* gradients, const rh_tensors* first_moments, const rh_tensors* second_moments,
           float* gradient_norm, rh_workspace workspace);
void loss_gradients(const rh_plan& plan, const rh_loss_arguments* arguments, rh_workspace workspace);
void train_step(const rh_plan& plan, const rh_train_arguments* arguments, rh_workspace workspace);

}  // namespace rewardhead::runtime
