// SPDX-License-Identifier: Apache-2.0
//
// RH_PLAN_MEASURE: what works is timed on the GPU for the plan's shape, and the fastest is kept.
#pragma once

#include <functional>

#include "host/runtime/cuda_plan.h"

namespace rewardhead::runtime {

// Microseconds of one run(), which enqueues the forward or the backward of a candidate on its stream.
using Stopwatch = std::function<double(const CudaPlan& candidate, bool backward, const std::function<void()>& run)>;

// By events: the best of three batches of about 2 ms, after runs that load the code and tell how many a batch has.
double event_stopwatch(const CudaPlan& candidate, bool backward, const std::function<void()>& run);

// Candidates are the rows that work, each with the model's splits and, of its forward and its backward apart, half and
// twice as many. The row is kept whose best forward and best backward take least together. Throws ApiError.
CudaPlan measured_plan(const CudaContext& context, const kernels::Shape& shape, kernels::Dtype dtype,
                       uint32_t operations, const Stopwatch& stopwatch = event_stopwatch);

}  // namespace rewardhead::runtime
