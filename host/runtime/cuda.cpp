// SPDX-License-Identifier: Apache-2.0
//
// The launchers of kernels/cuda behind the plan. Built only with CUDA kernels.
#include <algorithm>
#include <string>

#include "host/runtime/cuda_plan.h"
#include "host/runtime/error.h"

namespace rewardhead::runtime {

namespace cuda = kernels::cuda;

namespace {

kernels::HeadTensors<float> tensors(const rh_tensors& t) { return {t.w1, t.b1, t.w2, t.b2}; }

}  // namespace

void check_cuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // an error of this call is not the next caller's; one that CUDA keeps, it keeps
  throw ApiError(RH_DEVICE_ERROR,
                 std::string(what) + ": " + cudaGetErrorName(error) + ", " + cudaGetErrorString(error));
}

bool cuda_works() {
  cudaStream_t stream = nullptr;
  const bool created = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess;
  if (created) cudaStreamDestroy(stream);
  cudaGetLastError();
  return created;
}

const char* misplaced(const CudaDevice* device, const void* pointer) {
  if (!CudaContext::was_opened()) return nullptr;
  cudaPointerAttributes attributes = {};
  const cudaError_t error = cudaPointerGetAttributes(&attributes, pointer);
  if (error != cudaSuccess) {
    if (!device) {  // the CPU's results do not depend on what state CUDA is in
      cudaGetLastError();
      return nullptr;
    }
    check_cuda(error, "cudaPointerGetAttributes");
  }
  if (attributes.type == cudaMemoryTypeManaged) return nullptr;
  if (!device) return attributes.type == cudaMemoryTypeDevice ? "memory of a GPU" : nullptr;
  if (attributes.type != cudaMemoryTypeDevice) return "host memory";
  return attributes.device == device->ordinal ? nullptr : "memory of another GPU";
}

CurrentDevice::CurrentDevice(int ordinal) : before_(ordinal), ordinal_(ordinal) {
  check_cuda(cudaGetDevice(&before_), "cudaGetDevice");
  if (before_ != ordinal) check_cuda(cudaSetDevice(ordinal), "cudaSetDevice");
}

CurrentDevice::~CurrentDevice() {
  if (before_ != ordinal_) cudaSetDevice(before_);
}

CudaPlan plan_row(const CudaContext& context, CudaRow row, const kernels::Shape& shape, kernels::Dtype dtype,
                  uint32_t operations) {
  // Two planes, whatever the type of X: W1 and dr are fp32, and one would round them to 8 bits. A third would double
  // the time (prediction).
  constexpr int kPlanes = 2;
  CudaPlan plan = {context.device(), shape, dtype, operations, row, {}, nullptr, {}};
  plan.mlp = {shape.rows,
              shape.input,
              shape.hidden,
              shape.members,
              dtype,
              kPlanes,
              shape.input_gradient,
              context.device().multiprocessors,
              row == kSm90a};
  if (row != kCublasLt && shape.hidden > 0) {
    plan.mlp.forward_splits = cuda::forward_splits(plan.mlp);
    plan.mlp.w1_splits = cuda::w1_splits(plan.mlp);
  }
  if (row != kCublasLt || shape.hidden == 0) return plan;
  plan.library = context.cublaslt();
  if (const int status = cuda::choose_algorithms(plan.mlp, *plan.library, plan.composed)) {
    throw ApiError(RH_UNSUPPORTED, "cuBLASLt: no algorithm for products of " + std::to_string(shape.rows) +
                                       " rows, " + std::to_string(shape.members * shape.hidden) +
                                       " hidden units and " + std::to_string(shape.input) + " columns (status " +
                                       std::to_string(status) + ')');
  }
  return plan;
}

size_t cuda_mask_bytes(const CudaPlan& plan) {
  if (plan.shape.hidden == 0 || !(plan.operations & RH_FORWARD)) return 0;
  if (plan.row != kCublasLt && !(plan.operations & RH_BACKWARD)) return 0;
  return plan.row == kCublasLt ? cuda::composed_mask_bytes(plan.composed) : cuda::mlp_mask_bytes(plan.mlp);
}

size_t cuda_scratch(const CudaPlan& plan) {
  const kernels::Shape& shape = plan.shape;
  const bool linear = shape.hidden == 0;
  size_t bytes = 0;
  if (plan.operations & RH_FORWARD && !linear) {
    bytes = plan.row == kCublasLt ? cuda::composed_workspace(plan.composed) : cuda::mlp_forward_workspace(plan.mlp);
  }
  if (plan.operations & RH_PAIR_LOSS) {
    bytes = std::max(bytes, cuda::pair_loss_workspace(shape.rows, shape.pairs, shape.members));
  }
  if (plan.operations & RH_BACKWARD) {
    if (linear) {
      bytes = std::max(bytes, cuda::linear_workspace(shape.rows, shape.input, shape.members));
    } else if (plan.row != kCublasLt) {
      bytes = std::max(bytes, cuda::mlp_backward_workspace(plan.mlp));
    }
    if (plan.operations & RH_PAIR_LOSS && linear) {
      bytes = std::max(bytes, cuda::linear_step_workspace(shape.rows, shape.input, shape.pairs, shape.members));
    }
  }
  if (plan.operations & RH_OPTIMIZER) {
    bytes = std::max(bytes, cuda::adamw_workspace(shape.input, shape.hidden, shape.members));
  }
  return bytes;
}

uint32_t read_flag(const CudaDevice& device, const uint32_t* flag) {
  const cudaStream_t stream = static_cast<cudaStream_t>(device.stream);
  uint32_t value = 0;
  check_cuda(cudaMemcpyAsync(&value, flag, sizeof value, cudaMemcpyDeviceToHost, stream), "reading the flag");
  check_cuda(cudaStreamSynchronize(stream), "waiting for the stream");
  return value;
}

CudaKernels::CudaKernels(const CudaPlan& plan, void* scratch)
    : plan_(plan), scratch_(scratch), current_(plan.device.ordinal) {}

void CudaKernels::forward(const kernels::ForwardArguments& arguments) const {
  check_cuda(plan_.shape.hidden == 0 ? cuda::linear_forward(arguments, plan_.stream())
             : plan_.row == kCublasLt
                 ? cuda::composed_forward(plan_.composed, arguments, scratch_, plan_.stream())
                 : cuda::mlp_forward(plan_.mlp, arguments, scratch_, plan_.stream()),
             "forward");
}

void CudaKernels::clear(uint32_t* flag) const {
  check_cuda(cudaMemsetAsync(flag, 0, sizeof *flag, plan_.stream()), "pair loss");
}

void CudaKernels::pair_loss(const kernels::PairLossArguments& arguments, uint32_t* bad_pairs) const {
  check_cuda(cuda::pair_loss(arguments, bad_pairs, scratch_, plan_.stream()), "pair loss");
}

void CudaKernels::backward(const kernels::BackwardArguments& arguments) const {
  check_cuda(plan_.shape.hidden == 0 ? cuda::linear_backward(arguments, scratch_, plan_.stream())
             : plan_.row == kCublasLt
                 ? cuda::composed_backward(plan_.composed, arguments, scratch_, plan_.stream())
                 : cuda::mlp_backward(plan_.mlp, arguments, scratch_, plan_.stream()),
             "backward");
}

void CudaKernels::linear_step(const kernels::ForwardArguments& forward, const kernels::PairLossArguments& pairs,
                              const kernels::BackwardArguments& backward) const {
  check_cuda(cuda::linear_step(forward, pairs, backward, scratch_, plan_.stream()), "linear step");
}

void CudaKernels::adamw(const rh_adamw_options& o, const rh_tensors& parameters, const rh_tensors& gradients,
                        const rh_tensors& first_moments, const rh_tensors& second_moments, float* gradient_norm) const {
  const kernels::Shape& shape = plan_.shape;
  const cuda::AdamwStep step = {tensors(parameters),     tensors(gradients), tensors(first_moments),
                                tensors(second_moments), shape.input,        shape.hidden,
                                shape.members,           o.learning_rate,    o.beta1,
                                o.beta2,                 o.epsilon,          o.weight_decay,
                                o.clip_norm,             o.step,             gradient_norm};
  check_cuda(cuda::adamw(step, scratch_, plan_.stream()), "adamw");
}

}  // namespace rewardhead::runtime
