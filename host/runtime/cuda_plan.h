// SPDX-License-Identifier: Apache-2.0
//
// For the files that talk to CUDA.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "host/runtime/cuda.h"
#include "kernels/cuda/launchers.h"

namespace rewardhead::runtime {

struct CudaPlan {
  CudaDevice device;
  kernels::Shape shape;
  kernels::Dtype dtype;
  uint32_t operations;
  CudaRow row;
  kernels::cuda::MlpPlan mlp;  // hidden 0: not used
  // Of kCublasLt, for an MLP head.
  std::shared_ptr<const kernels::cuda::cublaslt::Library> library;
  kernels::cuda::ComposedPlan composed;

  cudaStream_t stream() const { return static_cast<cudaStream_t>(device.stream); }
};

// RH_DEVICE_ERROR with what CUDA says, unless it is success.
void check_cuda(cudaError_t error, const char* what);

// False after a kernel that faulted: CUDA returns its error from every call then, for as long as the process lives. A
// failure's text then ends in kCudaIsUnusable, and its status is RH_DEVICE_ERROR. A thread that captures may ask, too.
bool cuda_works();
inline constexpr const char* kCudaIsUnusable = ". CUDA can do nothing more in this process";

// A plan for a row, whether or not it works. Throws ApiError where cuBLASLt has no algorithm.
CudaPlan plan_row(const CudaContext& context, CudaRow row, const kernels::Shape& shape, kernels::Dtype dtype,
                  uint32_t operations);

}  // namespace rewardhead::runtime
