// SPDX-License-Identifier: Apache-2.0
//
// How a kernel is launched: one struct of parameters, by value.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/ptx.h"

namespace rewardhead::kernels::cuda {

struct LaunchShape {
  int64_t blocks;
  int threads;
  int shared_bytes = 0;
  int cluster = 1;
};

constexpr int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_divide(a, b) * b; }

template <class Parameters>
cudaError_t launch(void (*kernel)(Parameters), const LaunchShape& shape, const Parameters& parameters,
                   cudaStream_t stream) {
  if (shape.blocks > 0x7fffffff) return cudaErrorInvalidConfiguration;  // the most of a grid
  if (shape.shared_bytes > 48 << 10) {  // what a kernel may use without asking
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shape.shared_bytes);
    if (error != cudaSuccess) return error;
  }
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = static_cast<unsigned>(shape.cluster);
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(shape.blocks), 1, 1);
  config.blockDim = dim3(static_cast<unsigned>(shape.threads), 1, 1);
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = shape.cluster > 1 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, parameters);
}

// Calls body with the type of a product's operands, a constant.
template <class Body>
cudaError_t with_input(bool half, const Body& body) {
  return half ? body(std::integral_constant<ptx::Input, ptx::Input::f16>())
              : body(std::integral_constant<ptx::Input, ptx::Input::bf16>());
}

}  // namespace rewardhead::kernels::cuda
