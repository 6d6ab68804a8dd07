// SPDX-License-Identifier: Apache-2.0
//
// GPUs, as the rest of the runtime sees them: without CUDA's headers. In a build without CUDA kernels kHasCuda is
// false, no context has a device, and what is declared here is not defined.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "kernels/kernel_table.h"
#include "rewardhead/rewardhead.h"

namespace rewardhead::kernels::cuda::cublaslt {
struct Library;
}

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
  void* stream;      // a cudaStream_t
  std::string name;  // without white space
};

// One row of the GPU's dispatch list, best first. All rows serve every operation and shape; they differ in the matrix
// products of the MLP head only.
struct CudaImplementation {
  const char* name;
  const char* needs;
  bool (*usable)(const CudaDevice& device);
};
enum CudaRow { kSm90a, kSm80, kCublasLt, kCudaRows };
inline constexpr CudaImplementation kCudaImplementations[kCudaRows] = {
    {"sm90a", "compute capability 9.0", [](const CudaDevice& d) { return d.major == 9 && d.minor == 0; }},
    {"sm80", "compute capability 8.0", [](const CudaDevice& d) { return d.major >= 8; }},
    {"cublaslt", "compute capability 8.0", [](const CudaDevice& d) { return d.major >= 8; }},
};

// As rh_kernel_info names them.
inline constexpr const char* kCudaOperations[] = {"forward", "pair_loss", "backward", "linear_step", "adamw"};

// A GPU, and what has been found out about the rows on it: each is checked against the CPU (cuda_check.h) when a plan
// first wants it, and one that fails is used no more. Plans are made by several threads at once.
class CudaContext {
 public:
  // The calling thread's current device. `isa` is "auto" or a row's name. Throws ApiError.
  CudaContext(const std::string& isa, void* stream);

  // Whether the process has had one. Before, CUDA is not asked about pointers: that would start it, which a program
  // that never wanted a GPU is spared.
  static bool was_opened();

  const CudaDevice& device() const { return device_; }
  // The row in use: the one asked for, or the first that is usable and, as far as is known, works.
  CudaRow row() const;
  // Why a row is in use or is not; the string lives as long as the context.
  const char* reason(CudaRow row) const;

  // Rows that work, best first, for a head of this shape; `count` at most. The kernels that rows share have been
  // checked, too. Throws ApiError where none is left.
  std::vector<CudaRow> choose(const kernels::Shape& shape, size_t count) const;
  // The row of that name, if it works. Throws ApiError.
  CudaRow choose(const std::string& name) const;
  // Throws RH_DEVICE_ERROR, now and from each later choose: after `failure` CUDA can do nothing more.
  [[noreturn]] void end_after(const std::string& failure) const;
  // Opened by the first plan that uses it.
  std::shared_ptr<const kernels::cuda::cublaslt::Library> cublaslt() const { return cublaslt_; }

 private:
  // Called with the mutex.
  void check_shared() const;
  // What a check has found, empty if nothing, becomes `failure`; but gives up where a kernel has faulted.
  void remember(std::optional<std::string>& failure, const std::string& subject, const std::string& found) const;
  [[noreturn]] void give_up(const std::string& failure) const;
  bool works(CudaRow row) const;
  std::vector<CudaRow> order(const kernels::Shape& shape) const;
  CudaRow row_in_use() const;

  CudaDevice device_;
  std::string isa_;
  mutable std::mutex mutex_;
  // What is wrong with a row, or with the kernels that all share; nothing if it has been checked and agrees.
  mutable std::optional<std::string> failure_[kCudaRows], shared_failure_;
  mutable std::string unusable_;  // why CUDA is since a kernel has faulted, if it is
  mutable std::shared_ptr<const kernels::cuda::cublaslt::Library> cublaslt_;
  mutable std::set<std::string> reasons_;  // that were told
};

// What `pointer` is instead of memory of `device`, or, for null, of the host: "host memory", ...; null if nothing else.
// A pointer that CUDA does not know counts as the host's. Null for the host, too, before the first CudaContext.
const char* misplaced(const CudaDevice* device, const void* pointer);

// What a plan has decided for a GPU; cuda_plan.h.
struct CudaPlan;
std::shared_ptr<const CudaPlan> make_cuda_plan(const CudaContext& context, const kernels::Shape& shape,
                                               kernels::Dtype dtype, uint32_t operations, rh_planning planning,
                                               const char* choices);
// Of rh_plan_export.
std::string export_choices(const CudaPlan& plan);
// The scratch memory of any one execute, and bytes of what a forward of an MLP head leaves for a backward, or in the
// composed chain for its own kernels; 0 where nothing does.
size_t cuda_scratch(const CudaPlan& plan);
size_t cuda_mask_bytes(const CudaPlan& plan);

// The value of a flag on the device, once the stream has come to it.
uint32_t read_flag(const CudaDevice& device, const uint32_t* flag);

// The thread's current device, until the end of the scope.
class CurrentDevice {
 public:
  explicit CurrentDevice(int ordinal);
  ~CurrentDevice();
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int before_, ordinal_;
};

// Enqueues kernels on the device's stream. Throws ApiError where CUDA refuses.
class CudaKernels {
 public:
  CudaKernels(const CudaPlan& plan, void* scratch);

  void forward(const kernels::ForwardArguments& arguments) const;
  void clear(uint32_t* flag) const;
  void pair_loss(const kernels::PairLossArguments& arguments, uint32_t* bad_pairs) const;
  void backward(const kernels::BackwardArguments& arguments) const;
  void linear_step(const kernels::ForwardArguments& forward, const kernels::PairLossArguments& pairs,
                   const kernels::BackwardArguments& backward) const;
  void adamw(const rh_adamw_options& options, const rh_tensors& parameters, const rh_tensors& gradients,
             const rh_tensors& first_moments, const rh_tensors& second_moments, float* gradient_norm) const;

 private:
  const CudaPlan& plan_;
  void* scratch_;
  CurrentDevice current_;
};

}  // namespace rewardhead::runtime
