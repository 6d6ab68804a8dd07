// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <string>

#include "host/runtime/cublaslt.h"
#include "host/runtime/cuda_plan.h"
#include "host/runtime/error.h"

namespace rewardhead::runtime {
namespace {

std::atomic<bool> is_opened{false};

int attribute(cudaDeviceAttr which, int ordinal) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, which, ordinal), "cudaDeviceGetAttribute");
  return value;
}

CudaDevice current_device(void* stream) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    cudaGetLastError();
    throw ApiError(RH_UNSUPPORTED, std::string("device is cuda: there is no GPU that CUDA can use (") +
                                       cudaGetErrorName(error != cudaSuccess ? error : cudaErrorNoDevice) + ')');
  }
  CudaDevice device = {0, 0, 0, 0, stream};
  check_cuda(cudaGetDevice(&device.ordinal), "cudaGetDevice");
  device.major = attribute(cudaDevAttrComputeCapabilityMajor, device.ordinal);
  device.minor = attribute(cudaDevAttrComputeCapabilityMinor, device.ordinal);
  device.multiprocessors = attribute(cudaDevAttrMultiProcessorCount, device.ordinal);
  return device;
}

}  // namespace

CudaContext::CudaContext(const std::string& isa, void* stream) : device_(current_device(stream)), isa_(isa) {
  const std::string capability = std::to_string(device_.major) + '.' + std::to_string(device_.minor);
  std::string names = "auto";
  bool known = isa == "auto";
  for (const CudaImplementation& row : kCudaImplementations) {
    if (row.usable(device_)) {
      names += std::string(", ") + row.name;
      known = known || isa == row.name;
    } else if (isa == row.name) {
      throw ApiError(RH_UNSUPPORTED,
                     "isa is \"" + isa + "\", which needs " + row.needs + "; the GPU has " + capability);
    }
  }
  if (device_.major < 8) {
    throw ApiError(RH_UNSUPPORTED,
                   "device is cuda: the GPU's compute capability is " + capability + "; 8.0 or later is needed");
  }
  if (!known) refuse("isa is \"" + isa + "\"; expected one of " + names);
  is_opened = true;
}

bool CudaContext::was_opened() { return is_opened.load(std::memory_order_relaxed); }

bool CudaContext::works(CudaRow row) const {
  if (!kCudaImplementations[row].usable(device_) || !failure_[row].empty()) return false;
  if (row == kCublasLt && !cublaslt_) {
    try {
      cublaslt_ = open_cublaslt();
    } catch (const ApiError& error) {
      failure_[row] = error.what();
    }
  }
  return failure_[row].empty();
}

CudaRow CudaContext::row_in_use() const {
  for (int row = 0; row < kCudaRows; ++row) {
    if (isa_ == kCudaImplementations[row].name) return static_cast<CudaRow>(row);
  }
  for (int row = 0; row < kCudaRows; ++row) {
    if (kCudaImplementations[row].usable(device_) && failure_[row].empty()) return static_cast<CudaRow>(row);
  }
  return kCublasLt;  // none works, as its own reason says
}

CudaRow CudaContext::row() const {
  const std::lock_guard lock(mutex_);
  return row_in_use();
}

const char* CudaContext::reason(CudaRow row) const {
  const std::lock_guard lock(mutex_);
  const CudaRow used = row_in_use();
  const CudaImplementation& own = kCudaImplementations[row];
  const std::string name = kCudaImplementations[used].name;
  const std::string text = !own.usable(device_)      ? std::string("the GPU lacks ") + own.needs
                           : !failure_[row].empty() ? failure_[row]
                           : row == used   ? (isa_ == "auto" ? "the best that this GPU runs" : "asked for")
                           : row > used    ? "predicted to be slower than " + name
                                           : "another was asked for: " + name;
  return reasons_.insert(text).first->c_str();
}

CudaRow CudaContext::choose(const kernels::Shape& shape) const {
  const std::lock_guard lock(mutex_);
  const CudaRow first = row_in_use();
  if (shape.hidden == 0) return first;  // nothing that rows differ in
  std::string failures;
  for (int i = 0; i < kCudaRows; ++i) {
    const CudaRow row = static_cast<CudaRow>(i);
    const CudaImplementation& own = kCudaImplementations[row];
    if (isa_ != "auto" && isa_ != own.name) continue;
    if (works(row)) return row;
    if (own.usable(device_)) failures += (failures.empty() ? "" : "; ") + (std::string(own.name) + ": " + failure_[row]);
  }
  throw ApiError(RH_UNSUPPORTED, isa_ == "auto" ? "no implementation works on this GPU: " + failures
                                                : "isa is \"" + isa_ + "\", which does not work here: " + failures);
}

}  // namespace rewardhead::runtime
