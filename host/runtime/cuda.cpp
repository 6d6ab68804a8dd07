// SPDX-License-Identifier: Apache-2.0
//
// The launchers of kernels/cuda behind the plan. Built only with CUDA kernels.
#include "host/runtime/cuda.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>

#include "host/runtime/error.h"
#include "kernels/cuda/launchers.h"

namespace rewardhead::runtime {
namespace {

namespace cuda = kernels::cuda;

// Set by open_cuda: asking about a pointer starts CUDA, which a program that never wanted a GPU is spared.
std::atomic<bool> is_opened{false};

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // an error of this call is not the next caller's; one that CUDA keeps, it keeps
  throw ApiError(RH_DEVICE_ERROR,
                 std::string(what) + ": " + cudaGetErrorName(error) + ", " + cudaGetErrorString(error));
}

cudaStream_t stream(const CudaDevice& device) { return static_cast<cudaStream_t>(device.stream); }

cuda::MlpPlan mlp_plan(const CudaDevice& device, const kernels::Shape& shape, kernels::Dtype dtype) {
  // Two planes, whatever the type of X: W1 and dr are fp32, and one would round them to 8 bits. A third would double
  // the time (prediction).
  constexpr int kPlanes = 2;
  return {shape.rows,
          shape.input,
          shape.hidden,
          shape.members,
          dtype,
          kPlanes,
          shape.input_gradient,
          device.multiprocessors,
          device.implementation == kCudaImplementations[0].name};
}

kernels::HeadTensors<float> tensors(const rh_tensors& t) { return {t.w1, t.b1, t.w2, t.b2}; }

int attribute(cudaDeviceAttr which, int ordinal) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, ordinal), "cudaDeviceGetAttribute");
  return value;
}

}  // namespace

CudaDevice open_cuda(const std::string& isa, void* callers_stream) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    cudaGetLastError();
    throw ApiError(RH_UNSUPPORTED, std::string("device is cuda: there is no GPU that CUDA can use (") +
                                       cudaGetErrorName(error != cudaSuccess ? error : cudaErrorNoDevice) + ')');
  }
  CudaDevice device = {0, 0, 0, 0, callers_stream, nullptr};
  check(cudaGetDevice(&device.ordinal), "cudaGetDevice");
  device.major = attribute(cudaDevAttrComputeCapabilityMajor, device.ordinal);
  device.minor = attribute(cudaDevAttrComputeCapabilityMinor, device.ordinal);
  device.multiprocessors = attribute(cudaDevAttrMultiProcessorCount, device.ordinal);
  std::string names = "auto";
  for (const CudaImplementation& row : kCudaImplementations) {
    if (!row.usable(device)) {
      if (isa != row.name) continue;
      throw ApiError(RH_UNSUPPORTED, "isa is \"" + isa + "\", which needs " + row.needs + "; the GPU has " +
                                         std::to_string(device.major) + '.' + std::to_string(device.minor));
    }
    names += std::string(", ") + row.name;
    if (!device.implementation && (isa == "auto" || isa == row.name)) device.implementation = row.name;
  }
  if (device.major < 8) {
    throw ApiError(RH_UNSUPPORTED, "device is cuda: the GPU's compute capability is " + std::to_string(device.major) +
                                       '.' + std::to_string(device.minor) + "; 8.0 or later is needed");
  }
  if (!device.implementation) refuse("isa is \"" + isa + "\"; expected one of " + names);
  is_opened = true;
  return device;
}

const char* misplaced(const CudaDevice* device, const void* pointer) {
  if (!is_opened.load(std::memory_order_relaxed)) return nullptr;
  cudaPointerAttributes attributes = {};
  const cudaError_t error = cudaPointerGetAttributes(&attributes, pointer);
  if (error != cudaSuccess) {
    if (!device) {  // the CPU's results do not depend on what state CUDA is in
      cudaGetLastError();
      return nullptr;
    }
    check(error, "cudaPointerGetAttributes");
  }
  if (attributes.type == cudaMemoryTypeManaged) return nullptr;
  if (!device) return attributes.type == cudaMemoryTypeDevice ? "memory of a GPU" : nullptr;
  if (attributes.type != cudaMemoryTypeDevice) return "host memory";
  return attributes.device == device->ordinal ? nullptr : "memory of another GPU";
}

size_t cuda_mask_bytes(const CudaDevice& device, const kernels::Shape& shape, kernels::Dtype dtype) {
  return cuda::mlp_mask_bytes(mlp_plan(device, shape, dtype));
}

size_t cuda_scratch(const CudaDevice& device, const kernels::Shape& shape, kernels::Dtype dtype, uint32_t operations) {
  const cuda::MlpPlan plan = mlp_plan(device, shape, dtype);
  const bool linear = shape.hidden == 0;
  size_t bytes = 0;
  if (operations & RH_FORWARD && !linear) bytes = std::max(bytes, cuda::mlp_forward_workspace(plan));
  if (operations & RH_PAIR_LOSS) bytes = std::max(bytes, cuda::pair_loss_workspace(shape.rows, shape.pairs));
  if (operations & RH_BACKWARD) {
    bytes = std::max(bytes, linear ? cuda::linear_workspace(shape.rows, shape.input)
                                   : cuda::mlp_backward_workspace(plan));
    if (operations & RH_PAIR_LOSS && linear) {
      bytes = std::max(bytes, cuda::linear_step_workspace(shape.rows, shape.input, shape.pairs));
    }
  }
  if (operations & RH_OPTIMIZER) {
    bytes = std::max(bytes, cuda::adamw_workspace(shape.input, shape.hidden, shape.members));
  }
  return bytes;
}

uint32_t read_flag(const CudaDevice& device, const uint32_t* flag) {
  uint32_t value = 0;
  check(cudaMemcpyAsync(&value, flag, sizeof value, cudaMemcpyDeviceToHost, stream(device)), "reading the flag");
  check(cudaStreamSynchronize(stream(device)), "waiting for the stream");
  return value;
}

CudaKernels::CudaKernels(const CudaDevice& device, const kernels::Shape& shape, kernels::Dtype dtype, void* scratch)
    : device_(device), shape_(shape), dtype_(dtype), scratch_(scratch), current_device_(device.ordinal) {
  check(cudaGetDevice(&current_device_), "cudaGetDevice");
  if (current_device_ != device.ordinal) check(cudaSetDevice(device.ordinal), "cudaSetDevice");
}

CudaKernels::~CudaKernels() {
  if (current_device_ != device_.ordinal) cudaSetDevice(current_device_);
}

void CudaKernels::forward(const kernels::ForwardArguments& arguments) const {
  check(shape_.hidden == 0 ? cuda::linear_forward(arguments, stream(device_))
                           : cuda::mlp_forward(mlp_plan(device_, shape_, dtype_), arguments, scratch_, stream(device_)),
        "forward");
}

void CudaKernels::clear(uint32_t* flag) const {
  check(cudaMemsetAsync(flag, 0, sizeof *flag, stream(device_)), "pair loss");
}

void CudaKernels::pair_loss(const kernels::PairLossArguments& arguments, uint32_t* bad_pairs) const {
  check(cuda::pair_loss(arguments, bad_pairs, scratch_, stream(device_)), "pair loss");
}

void CudaKernels::backward(const kernels::BackwardArguments& arguments) const {
  check(shape_.hidden == 0
            ? cuda::linear_backward(arguments, scratch_, stream(device_))
            : cuda::mlp_backward(mlp_plan(device_, shape_, dtype_), arguments, scratch_, stream(device_)),
        "backward");
}

void CudaKernels::linear_step(const kernels::ForwardArguments& forward, const kernels::PairLossArguments& pairs,
                              const kernels::BackwardArguments& backward) const {
  check(cuda::linear_step(forward, pairs, backward, scratch_, stream(device_)), "linear step");
}

void CudaKernels::adamw(const rh_adamw_options& o, const rh_tensors& parameters, const rh_tensors& gradients,
                        const rh_tensors& first_moments, const rh_tensors& second_moments, float* gradient_norm) const {
  const cuda::AdamwStep step = {tensors(parameters),    tensors(gradients), tensors(first_moments),
                                tensors(second_moments), shape_.input,       shape_.hidden,
                                shape_.members,         o.learning_rate,    o.beta1,
                                o.beta2,                o.epsilon,          o.weight_decay,
                                o.clip_norm,            o.step,             gradient_norm};
  check(cuda::adamw(step, scratch_, stream(device_)), "adamw");
}

}  // namespace rewardhead::runtime
