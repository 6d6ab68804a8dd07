// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "kernels/cuda/cublaslt.h"

namespace rewardhead::runtime {

// cuBLASLt: what the process has already, or libcublasLt.so.13 as the dynamic linker finds it. The calling thread's
// current device is the handle's. Throws ApiError, RH_UNSUPPORTED, with what was looked for and why it is of no use.
std::shared_ptr<const kernels::cuda::cublaslt::Library> open_cublaslt();

}  // namespace rewardhead::runtime
