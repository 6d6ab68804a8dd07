// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host/training/learner.h"

namespace rewardhead::training {

// make_learner for a context with RH_DEVICE_CUDA; defined only in a build with CUDA kernels. The rows of the data, the
// head, its gradients and moments stay on the GPU; throws Error, with the bytes needed and free, where they do not fit.
std::unique_ptr<Learner> make_cuda_learner(const Context& context, const TrainingData& data, const PlanOptions& plan,
                                           const Head& parameters, int64_t steps);

}  // namespace rewardhead::training
