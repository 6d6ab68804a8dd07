// SPDX-License-Identifier: Apache-2.0
//
// A stream and device memory for what is tried out while a plan is made.
#pragma once

#include <algorithm>
#include <vector>

#include "host/runtime/cuda_plan.h"
#include "host/runtime/error.h"

namespace rewardhead::runtime {

// There was no memory, or the thread captures a graph: which says nothing about the kernels.
class CannotTry : public ApiError {
 public:
  using ApiError::ApiError;
};

// Of the thread's current device, until the end of the scope.
class TrialMemory {
 public:
  TrialMemory() { need(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~TrialMemory() {
    cudaStreamSynchronize(stream_);  // what failed may still be running
    for (void* memory : all_) cudaFree(memory);
    cudaStreamDestroy(stream_);
    cudaGetLastError();
  }
  TrialMemory(const TrialMemory&) = delete;
  TrialMemory& operator=(const TrialMemory&) = delete;

  cudaStream_t stream() const { return stream_; }
  // At least one byte, every bit set: NaN.
  void* room(size_t bytes) {
    void* memory = nullptr;
    bytes = std::max<size_t>(bytes, 1);
    need(cudaMalloc(&memory, bytes));
    all_.push_back(memory);
    need(cudaMemsetAsync(memory, 0xff, bytes, stream_));
    return memory;
  }
  template <class T>
  T* put(const std::vector<T>& values) {
    void* const memory = room(values.size() * sizeof(T));
    need(cudaMemcpyAsync(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice, stream_));
    return static_cast<T*>(memory);
  }
  float* results(size_t count) { return static_cast<float*>(room(count * sizeof(float))); }
  // Waits; what a kernel has done wrong is an ApiError here.
  std::vector<float> fetch(const float* from, size_t count) {
    std::vector<float> values(count);
    check_cuda(cudaMemcpyAsync(values.data(), from, count * sizeof(float), cudaMemcpyDeviceToHost, stream_),
               "its check");
    check_cuda(cudaStreamSynchronize(stream_), "its check");
    return values;
  }

 private:
  static void need(cudaError_t error) {
    if (error == cudaSuccess) return;
    cudaGetLastError();
    throw CannotTry(error == cudaErrorMemoryAllocation ? RH_OUT_OF_MEMORY : RH_DEVICE_ERROR,
                    std::string("kernels cannot be tried on the GPU: ") + cudaGetErrorName(error) + ", " +
                        cudaGetErrorString(error));
  }
  cudaStream_t stream_ = nullptr;
  std::vector<void*> all_;
};

}  // namespace rewardhead::runtime
