// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace rewardhead::training {

// Enqueues to[i] = from[rows[i]] for i < count, whole rows of `stride` floats, padding too. `stride` is a multiple of 4,
// `from` and `to` are aligned to 16 bytes; all is device memory, and nothing is checked.
cudaError_t gather_rows(const float* from, const int32_t* rows, int64_t count, int64_t stride, float* to,
                        cudaStream_t stream);

}  // namespace rewardhead::training
