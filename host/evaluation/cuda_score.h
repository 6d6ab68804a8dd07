// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host/evaluation/score.h"

namespace rewardhead::evaluation {

// For a context with RH_DEVICE_CUDA; defined only in a build with CUDA kernels. Arguments must outlive it.
std::unique_ptr<ScoringDevice> make_cuda_scoring(const Context& context, const dataset::Embeddings& embeddings,
                                                 const PlanOptions& plan);

}  // namespace rewardhead::evaluation
