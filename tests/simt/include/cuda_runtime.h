// SPDX-License-Identifier: Apache-2.0
//
// CUDA's C++ layer over its runtime interface: as much of it as launches kernels.
#pragma once

#include "cuda_runtime_api.h"

// Says how to call a kernel with one parameter, by value: nothing registers kernels before main() here.
template <class Parameters>
const void* soft_kernel(void (*kernel)(Parameters)) {
  const void* const function = reinterpret_cast<const void*>(kernel);
  soft_register_kernel(function, sizeof(Parameters), [](const void* to_call, const void* parameters) {
    reinterpret_cast<void (*)(Parameters)>(const_cast<void*>(to_call))(*static_cast<const Parameters*>(parameters));
  });
  return function;
}

template <class Parameters, class Argument>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters), Argument&& argument) {
  Parameters parameters = static_cast<Argument&&>(argument);
  void* arguments[] = {&parameters};
  return cudaLaunchKernelExC(config, soft_kernel(kernel), arguments);
}

template <class Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters), cudaFuncAttribute attribute, int value) {
  return cudaFuncSetAttribute(soft_kernel(kernel), attribute, value);
}
