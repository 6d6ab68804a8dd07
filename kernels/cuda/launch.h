// SPDX-License-Identifier: Apache-2.0
//
// How a kernel is launched: one struct of parameters, by value. The same call under nvcc and on the software device,
// whose runtime is handed an untyped pointer and therefore learns here how to call what it points at.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/ptx.h"

#if !defined(__CUDACC__)
void soft_register_kernel(const void* kernel, size_t parameter_bytes, void (*call)(const void*, const void*));
#endif

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
  const void* const function = reinterpret_cast<const void*>(kernel);
#if !defined(__CUDACC__)
  soft_register_kernel(function, sizeof(Parameters), [](const void* to_call, const void* arguments) {
    reinterpret_cast<void (*)(Parameters)>(const_cast<void*>(to_call))(*static_cast<const Parameters*>(arguments));
  });
#endif
  if (shape.shared_bytes > 48 << 10) {  // what a kernel may use without asking
    const cudaError_t error =
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, shape.shared_bytes);
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
  void* arguments[] = {const_cast<Parameters*>(&parameters)};
  return cudaLaunchKernelExC(&config, function, arguments);
}

}  // namespace rewardhead::kernels::cuda
