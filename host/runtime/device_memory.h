// SPDX-License-Identifier: Apache-2.0
//
// Owners of CUDA's memory, streams and events, for what trains and scores on the calling thread's current GPU. Only
// for sources of a build with CUDA kernels. Functions throw Error with what CUDA says.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <memory>
#include <string>

#include "rewardhead/rewardhead.hpp"

namespace rewardhead::runtime {

inline void throw_on_cuda_error(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // an error of this call is not the next caller's; one that CUDA keeps, it keeps
  throw Error(RH_DEVICE_ERROR, std::string(what) + ": " + cudaGetErrorName(error) + ", " + cudaGetErrorString(error));
}

// Device memory, not initialised, aligned to RH_CUDA_ALIGNMENT. Releasing it waits for the device.
class DeviceMemory {
 public:
  // For the message where there is too little memory: "PURPOSE needs ... are free. ADVICE".
  DeviceMemory(size_t bytes, const std::string& purpose, const std::string& advice) {
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, bytes);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      size_t free = 0, total = 0;
      throw_on_cuda_error(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
      throw Error(RH_OUT_OF_MEMORY, purpose + " needs " + std::to_string(bytes) + " bytes of the GPU's memory; " +
                                        std::to_string(free) + " of " + std::to_string(total) + " are free. " + advice);
    }
    throw_on_cuda_error(error, "cudaMalloc");
    memory_.reset(memory);
  }
  void* get() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(void* memory) const noexcept { cudaFree(memory); }
  };
  std::unique_ptr<void, Free> memory_;
};

// Host memory that the device copies from while the host goes on.
class PinnedMemory {
 public:
  explicit PinnedMemory(size_t bytes) {  // 0: none
    if (bytes == 0) return;
    void* memory = nullptr;
    throw_on_cuda_error(cudaMallocHost(&memory, bytes), "cudaMallocHost");
    memory_.reset(memory);
  }
  void* get() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(void* memory) const noexcept { cudaFreeHost(memory); }
  };
  std::unique_ptr<void, Free> memory_;
};

// Two sets of buffers, used in turn, so that the next piece of work is made ready while one executes: the host fills
// pinned memory, a stream of its own copies, and the computing stream uses the copy. For each piece:
//
//   set = begin();  fill pinned memory of the set;  enqueue copies on copying();  copied();
//   enqueue work on the computing stream;  used();
class TwoTurns {
 public:
  explicit TwoTurns(cudaStream_t computing) : computing_(computing) {
    // Not ordered with CUDA's default stream, which may be the computing one.
    throw_on_cuda_error(cudaStreamCreateWithFlags(&copying_, cudaStreamNonBlocking), "cudaStreamCreate");
    for (cudaEvent_t* event : {&copied_[0], &copied_[1], &used_[0], &used_[1]}) {
      const cudaError_t error = cudaEventCreateWithFlags(event, cudaEventDisableTiming);
      if (error == cudaSuccess) continue;
      release();
      throw_on_cuda_error(error, "cudaEventCreate");
    }
  }
  ~TwoTurns() {
    cudaStreamSynchronize(copying_);  // the buffers may go now
    release();
  }
  TwoTurns(const TwoTurns&) = delete;
  TwoTurns& operator=(const TwoTurns&) = delete;

  cudaStream_t copying() const { return copying_; }

  // The set, 0 or 1, for the next piece. Waits until its pinned memory has been copied; what follows on copying() comes
  // after the work that used the set's device memory.
  size_t begin() {
    set_ = 1 - set_;
    throw_on_cuda_error(cudaEventSynchronize(copied_[set_]), "cudaEventSynchronize");
    throw_on_cuda_error(cudaStreamWaitEvent(copying_, used_[set_], 0), "cudaStreamWaitEvent");
    return set_;
  }
  void copied() {
    throw_on_cuda_error(cudaEventRecord(copied_[set_], copying_), "cudaEventRecord");
    throw_on_cuda_error(cudaStreamWaitEvent(computing_, copied_[set_], 0), "cudaStreamWaitEvent");
  }
  void used() { throw_on_cuda_error(cudaEventRecord(used_[set_], computing_), "cudaEventRecord"); }

 private:
  void release() {
    for (cudaEvent_t event : {copied_[0], copied_[1], used_[0], used_[1]}) {
      if (event) cudaEventDestroy(event);
    }
    cudaStreamDestroy(copying_);
  }

  cudaStream_t computing_, copying_ = nullptr;
  std::array<cudaEvent_t, 2> copied_ = {}, used_ = {};
  size_t set_ = 1;
};

// The tensors of `head` in device memory that has its values one after the other.
inline rh_tensors tensors_at(float* values, const Head& head) {
  if (head.linear()) return {values, nullptr, nullptr, nullptr};
  float* const b1 = values + head.w1().size();
  return {values, b1, b1 + head.hidden(), b1 + 2 * head.hidden()};
}

inline void upload(const Head& head, float* values, cudaStream_t stream) {
  throw_on_cuda_error(
      cudaMemcpyAsync(values, head.values().data(), head.values().size_bytes(), cudaMemcpyHostToDevice, stream),
      "copying a head to the GPU");
}

// Waits for the stream.
inline void download(void* to, const void* from, size_t bytes, cudaStream_t stream) {
  throw_on_cuda_error(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream), "copying from the GPU");
  throw_on_cuda_error(cudaStreamSynchronize(stream), "waiting for the GPU");
}

}  // namespace rewardhead::runtime
