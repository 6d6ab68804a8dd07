// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "host/evaluation/score.h"

namespace rewardhead::evaluation {

// Rows that a plan for scoring takes at once, on every device: work for many threads; 12 MiB of fp32 at 768 columns.
inline constexpr int64_t kBlockRows = 4096;

constexpr size_t element_bytes(rh_dtype dtype) { return dtype == RH_F32 ? 4 : 2; }

// For a context with RH_DEVICE_CUDA; defined only in a build with CUDA kernels. Arguments must outlive it.
std::unique_ptr<ScoringDevice> make_cuda_scoring(const Context& context, const dataset::Embeddings& embeddings,
                                                 const PlanOptions& plan);

}  // namespace rewardhead::evaluation
