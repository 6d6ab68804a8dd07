// SPDX-License-Identifier: Apache-2.0
//
// The functions of rewardhead._core that rewardhead.torch calls, with the software device in place of a GPU, and what a
// test needs of that device.
#include <cuda_runtime_api.h>
#include <nanobind/nanobind.h>

#include <memory>
#include <stdexcept>
#include <vector>

#include "host/python/bindings/bindings.h"
#include "tests/simt/launch.h"
#include "tests/simt/runtime.h"

namespace nb = nanobind;

namespace {

void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorName(error));
}

std::vector<std::unique_ptr<simt::HostAccess>> host_access;

}  // namespace

NB_MODULE(simt_core, module) {
  rewardhead::python::bind_kernels(module);
  module.def("allocate", [](size_t bytes) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, bytes));
    return reinterpret_cast<uintptr_t>(memory);
  });
  module.def("make_stream", [] {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return reinterpret_cast<uintptr_t>(stream);
  });
  module.def("wait", [] { check(cudaDeviceSynchronize()); });
  // The host may access the device's memory between open() and close(); otherwise that is a segmentation fault.
  module.def("open", [] { host_access.emplace_back(std::make_unique<simt::HostAccess>()); });
  module.def("close", [] { host_access.pop_back(); });
  module.def("waits", [] { return simt::counts().synchronizations; });
  module.def("launches", [] { return simt::counts().launches; });
  module.def("copies_to_host", [] { return simt::counts().copies_to_host; });
}
