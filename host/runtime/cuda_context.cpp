// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <string>

#include "host/runtime/cublaslt.h"
#include "host/runtime/cuda_check.h"
#include "host/runtime/cuda_memory.h"
#include "host/runtime/error.h"

namespace rewardhead::runtime {
namespace {

std::atomic<bool> is_opened{false};

int attribute(cudaDeviceAttr which, int ordinal) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, which, ordinal), "cudaDeviceGetAttribute");
  return value;
}

// Why no device was found, in words.
std::string why_none(cudaError_t error) {
  int driver = 0;
  cudaDriverGetVersion(&driver);
  if (driver == 0) return "no NVIDIA driver was found";
  if (error != cudaErrorInsufficientDriver) return cudaGetErrorName(error);
  return "the NVIDIA driver is for CUDA " + std::to_string(driver / 1000) + '.' + std::to_string(driver % 1000 / 10) +
         "; " + std::to_string(CUDART_VERSION / 1000) + ".0 or later is needed";
}

CudaDevice current_device(void* stream) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  // Where there was a GPU before, it is a kernel that has faulted since.
  if (error != cudaErrorNoDevice && error != cudaErrorInsufficientDriver && CudaContext::was_opened()) {
    check_cuda(error, "cudaGetDeviceCount");
  }
  if (error != cudaSuccess || count == 0) {
    cudaGetLastError();
    throw ApiError(RH_UNSUPPORTED, "device is cuda: there is no GPU that CUDA can use (" +
                                       why_none(error != cudaSuccess ? error : cudaErrorNoDevice) + ')');
  }
  CudaDevice device = {0, 0, 0, 0, stream, {}};
  check_cuda(cudaGetDevice(&device.ordinal), "cudaGetDevice");
  device.major = attribute(cudaDevAttrComputeCapabilityMajor, device.ordinal);
  device.minor = attribute(cudaDevAttrComputeCapabilityMinor, device.ordinal);
  device.multiprocessors = attribute(cudaDevAttrMultiProcessorCount, device.ordinal);
  cudaDeviceProp properties = {};
  check_cuda(cudaGetDeviceProperties(&properties, device.ordinal), "cudaGetDeviceProperties");
  device.name = properties.name;
  std::replace_if(device.name.begin(), device.name.end(), [](unsigned char c) { return c <= ' '; }, '_');
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

// Best first. Tensor cores of compute capability 10 and 11 give mma.sync a fraction of their speed: there cuBLASLt,
// which has their own instructions, comes first from 2 GFLOP a product on (a prediction).
std::vector<CudaRow> CudaContext::order(const kernels::Shape& shape) const {
  std::vector<CudaRow> rows;
  for (int row = 0; row < kCudaRows; ++row) {
    const CudaImplementation& own = kCudaImplementations[row];
    if (own.usable(device_) && (isa_ == "auto" || isa_ == own.name)) rows.push_back(static_cast<CudaRow>(row));
  }
  const double flops = 2.0 * static_cast<double>(shape.rows) * static_cast<double>(shape.input) *
                       static_cast<double>(shape.members * shape.hidden);
  if ((device_.major == 10 || device_.major == 11) && flops > 2e9) std::reverse(rows.begin(), rows.end());
  return rows;
}

bool CudaContext::works(CudaRow row) const {
  if (!failure_[row]) {
    std::string found;
    try {
      if (row == kCublasLt && !cublaslt_) cublaslt_ = open_cublaslt();
    } catch (const ApiError& error) {
      found = error.what();
    }
    if (found.empty()) found = check_products(*this, row);
    remember(failure_[row], std::string(kCudaImplementations[row].name) + ": ", found);
  }
  return failure_[row]->empty();
}

void CudaContext::check_shared() const {
  const std::string shared = "what all implementations share ";
  if (!shared_failure_) remember(shared_failure_, shared, check_shared_kernels(*this));
  if (!shared_failure_->empty()) throw ApiError(RH_UNSUPPORTED, shared + *shared_failure_);
}

void CudaContext::remember(std::optional<std::string>& failure, const std::string& subject,
                           const std::string& found) const {
  if (!found.empty() && !cuda_works()) give_up(subject + found);
  failure = found;
}

void CudaContext::give_up(const std::string& failure) const {
  unusable_ = failure + kCudaIsUnusable;
  throw ApiError(RH_DEVICE_ERROR, unusable_);
}

void CudaContext::end_after(const std::string& failure) const {
  const std::lock_guard lock(mutex_);
  give_up(failure);
}

std::vector<CudaRow> CudaContext::choose(const kernels::Shape& shape, size_t count) const {
  const std::lock_guard lock(mutex_);
  if (!unusable_.empty()) throw ApiError(RH_DEVICE_ERROR, unusable_);
  const CurrentDevice current(device_.ordinal);
  check_shared();
  const std::vector<CudaRow> candidates = order(shape);
  if (shape.hidden == 0) return {candidates[0]};  // rows do not differ in what it runs
  std::vector<CudaRow> chosen;
  std::string failures;
  for (const CudaRow row : candidates) {
    if (works(row)) {
      chosen.push_back(row);
      if (chosen.size() == count) break;
    } else {
      failures +=
          (failures.empty() ? "" : "; ") + (std::string(kCudaImplementations[row].name) + ": " + *failure_[row]);
    }
  }
  if (!chosen.empty()) return chosen;
  throw ApiError(RH_UNSUPPORTED, isa_ == "auto" ? "no implementation is left for this GPU: " + failures
                                                : "isa is \"" + isa_ + "\", which does not work here: " + failures);
}

CudaRow CudaContext::choose(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  if (!unusable_.empty()) throw ApiError(RH_DEVICE_ERROR, unusable_);
  const CurrentDevice current(device_.ordinal);
  check_shared();
  for (const CudaRow row : order({})) {
    if (name != kCudaImplementations[row].name) continue;
    if (works(row)) return row;
    throw ApiError(RH_UNSUPPORTED, name + " does not work here: " + *failure_[row]);
  }
  refuse("choices has isa=" + name + "; the context's isa is \"" + isa_ + "\", on a GPU of compute capability " +
         std::to_string(device_.major) + '.' + std::to_string(device_.minor));
}

CudaRow CudaContext::row_in_use() const {
  const std::vector<CudaRow> rows = order({});
  for (const CudaRow row : rows) {
    if (!failure_[row] || failure_[row]->empty()) return row;
  }
  return rows.back();  // none works, as its reason says
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
  std::string text;
  if (!own.usable(device_)) {
    text = std::string("the GPU lacks ") + own.needs;
  } else if (!unusable_.empty()) {
    text = unusable_;
  } else if (shared_failure_ && !shared_failure_->empty()) {
    text = *shared_failure_;
  } else if (failure_[row] && !failure_[row]->empty()) {
    text = *failure_[row];
  } else {
    text = row == used  ? (isa_ == "auto" ? "the best that this GPU runs" : "asked for")
           : row > used ? "predicted to be slower than " + name
                        : "another was asked for: " + name;
    text += failure_[row] ? ", agrees with the CPU" : ", not checked yet";
  }
  return reasons_.insert(text).first->c_str();
}

}  // namespace rewardhead::runtime
