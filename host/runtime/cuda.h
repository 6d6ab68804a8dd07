// SPDX-License-Identifier: Apache-2.0
//
// GPUs, as the rest of the runtime sees them: without CUDA's headers. In a build without CUDA kernels kHasCuda is
// false, no context has a device, and what is declared here is not defined.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/kernel_table.h"
#include "rewardhead/rewardhead.h"

namespace rewardhead::runtime {

#if REWARDHEAD_HAS_CUDA
inline constexpr bool kHasCuda = true;
#else
inline constexpr bool kHasCuda = false;
#endif

struct CudaDevice {
  int ordinal;
  int major, minor;  // compute capability
  int multiprocessors;
  void* stream;                // a cudaStream_t
  const char* implementation;  // a name in kCudaImplementations, by address
};

// One row of the GPU's dispatch list, best first. All rows serve every operation and shape; they differ in the matrix
// products of the MLP head only.
struct CudaImplementation {
  const char* name;
  const char* needs;
  bool (*usable)(const CudaDevice& device);
};
inline constexpr CudaImplementation kCudaImplementations[] = {
    {"sm90a", "compute capability 9.0", [](const CudaDevice& d) { return d.major == 9 && d.minor == 0; }},
    {"sm80", "compute capability 8.0", [](const CudaDevice& d) { return d.major >= 8; }},
};

// As rh_kernel_info names them.
inline constexpr const char* kCudaOperations[] = {"forward", "pair_loss", "backward", "linear_step", "adamw"};

// The calling thread's current device, and the row that `isa` names or for "auto" the first usable one.
// Throws ApiError.
CudaDevice open_cuda(const std::string& isa, void* stream);

// What `pointer` is instead of memory of `device`, or, for null, of the host: "host memory", ...; null if nothing else.
// A pointer that CUDA does not know counts as the host's. Null for the host, too, before the first open_cuda.
const char* misplaced(const CudaDevice* device, const void* pointer);

// The scratch memory of any one execute.
size_t cuda_scratch(const CudaDevice& device, const kernels::Shape& shape, kernels::Dtype dtype, uint32_t operations);
// Bytes of the mask of an MLP head.
size_t cuda_mask_bytes(const CudaDevice& device, const kernels::Shape& shape, kernels::Dtype dtype);

// The value of a flag on the device, once the stream has come to it.
uint32_t read_flag(const CudaDevice& device, const uint32_t* flag);

// Enqueues kernels on the device's stream. Throws ApiError where CUDA refuses.
class CudaKernels {
 public:
  CudaKernels(const CudaDevice& device, const kernels::Shape& shape, kernels::Dtype dtype, void* scratch);
  ~CudaKernels();  // the thread's current device is again what it was
  CudaKernels(const CudaKernels&) = delete;
  CudaKernels& operator=(const CudaKernels&) = delete;

  void forward(const kernels::ForwardArguments& arguments) const;
  void clear(uint32_t* flag) const;
  void pair_loss(const kernels::PairLossArguments& arguments, uint32_t* bad_pairs) const;
  void backward(const kernels::BackwardArguments& arguments) const;
  void linear_step(const kernels::ForwardArguments& forward, const kernels::PairLossArguments& pairs,
                   const kernels::BackwardArguments& backward) const;
  void adamw(const rh_adamw_options& options, const rh_tensors& parameters, const rh_tensors& gradients,
             const rh_tensors& first_moments, const rh_tensors& second_moments, float* gradient_norm) const;

 private:
  const CudaDevice& device_;
  const kernels::Shape& shape_;
  kernels::Dtype dtype_;
  void* scratch_;
  int current_device_;
};

}  // namespace rewardhead::runtime
