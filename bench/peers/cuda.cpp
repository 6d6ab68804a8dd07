// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/cuda.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace rewardhead::bench {
namespace {

void check(rh_status status) {
  if (status != RH_OK) throw Error(status, rh_last_error_message());
}

rh_adamw_options adamw_options(int64_t step) {
  return AdamwOptions{kLearningRate, kBeta1, kBeta2, kEpsilon, kWeightDecay}.c(step);
}

}  // namespace

void check_cuda(cudaError_t error, const char* call) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(call) + ": " + cudaGetErrorName(error));
}

// Places in one piece of device memory, and copies of what they start with. Without memory it only counts bytes.
class CudaPeer::Carver {
 public:
  Carver(void* memory, size_t& used) : base_(static_cast<char*>(memory)), used_(used) {}
  template <class T>
  T* take(const T* from, size_t count) {
    const size_t at = used_;
    used_ += (count * sizeof(T) + RH_CUDA_ALIGNMENT - 1) / RH_CUDA_ALIGNMENT * RH_CUDA_ALIGNMENT;
    if (!base_ || count == 0) return nullptr;
    if (from) check_cuda(cudaMemcpy(base_ + at, from, count * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
    return reinterpret_cast<T*>(base_ + at);
  }
  template <class Values>
  auto take(const Values& values) {
    return take(values.data(), values.size());
  }
  // As bench/problem.h lays them out, for pointers that keep their distances.
  rh_tensors take(const Tensors& tensors) {
    float* const to = take(tensors.values);
    if (!to) return {};
    const rh_tensors host = tensors.pointers();
    const auto moved = [&](float* place) { return place ? to + (place - host.w1) : nullptr; };
    return {to, moved(host.b1), moved(host.w2), moved(host.b2)};
  }

 private:
  char* base_;
  size_t& used_;
};

CudaPeer::CudaPeer(const Problem& the_problem, const Context& context, cudaStream_t stream, size_t cold_bytes)
    : Peer(the_problem, 1),
      stream_(stream),
      plan_(context, plan_options(workload)) {
  size_t bytes = 0, free_bytes = 0, all_bytes = 0;
  carve(Carver(nullptr, bytes));
  check_cuda(cudaMemGetInfo(&free_bytes, &all_bytes), "cudaMemGetInfo");
  const size_t wanted = std::min<size_t>(cold_bytes / bytes + 2, 256), fit = free_bytes / 2 / bytes;
  for (size_t i = 0; i < std::clamp<size_t>(fit, 1, wanted); ++i) {
    void* memory = nullptr;
    check_cuda(cudaMalloc(&memory, bytes), "cudaMalloc");
    std::unique_ptr<void, Free> owned(memory);
    size_t used = 0;
    sets_.push_back(carve(Carver(memory, used)));
    sets_.back().memory = std::move(owned);
  }
  use(0);
}

CudaPeer::Set CudaPeer::carve(Carver carver) const {
  Set set = {};
  const void* const x = workload.dtype == RH_BF16 ? static_cast<const void*>(carver.take(problem.x_bf16))
                                                  : static_cast<const void*>(carver.take(problem.x));
  set.x = {x, workload.rows, workload.input};
  // AdamW and the whole step change their parameters: those of the results.
  set.parameters = carver.take(workload.updates() ? results.parameters : problem.parameters);
  set.gradients = carver.take(results.gradients);
  set.first_moments = carver.take(results.first_moments);
  set.second_moments = carver.take(results.second_moments);
  set.rewards = carver.take(results.rewards);
  set.reward_gradient = carver.take(results.reward_gradient);
  set.loss = carver.take(results.loss);
  set.input_gradient = carver.take(results.input_gradient);
  const int32_t* const chosen = carver.take(problem.chosen);
  const int32_t* const rejected = carver.take(problem.rejected);
  set.pairs = {workload.pairs, chosen, rejected, nullptr, nullptr, nullptr};
  const size_t bytes = rh_plan_workspace_bytes(plan_.get());
  set.workspace = {carver.take<char>(nullptr, bytes), bytes};
  return set;
}

void CudaPeer::forward() {
  check(rh_forward(plan_.get(), &set_->x, &set_->parameters, set_->rewards, set_->workspace));
}

void CudaPeer::pair_loss() {
  check(rh_pair_loss(plan_.get(), set_->rewards, workload.rows, &set_->pairs, 0, set_->loss, set_->reward_gradient,
                     set_->workspace));
}

void CudaPeer::backward() {
  check(rh_backward(plan_.get(), &set_->x, &set_->parameters, set_->reward_gradient, &set_->gradients,
                    set_->input_gradient, workload.input, set_->workspace));
}

rh_loss_arguments CudaPeer::loss_arguments() const {
  const Set& s = *set_;
  return {sizeof(rh_loss_arguments), s.x, s.pairs, 0, s.parameters, s.gradients, s.rewards, s.reward_gradient, s.loss,
          s.input_gradient, workload.input};
}

void CudaPeer::step() {
  const rh_loss_arguments arguments = loss_arguments();
  check(rh_loss_gradients(plan_.get(), &arguments, set_->workspace));
}

void CudaPeer::adamw() {
  const rh_adamw_options options = adamw_options(++steps_);
  check(rh_adamw(plan_.get(), &options, &set_->parameters, &set_->gradients, &set_->first_moments,
                 &set_->second_moments, nullptr, set_->workspace));
}

void CudaPeer::train() {
  const Set& s = *set_;
  const rh_train_arguments arguments = {
      sizeof(rh_train_arguments), s.x, s.pairs, 0, adamw_options(++steps_), s.parameters, s.gradients, s.first_moments,
      s.second_moments, s.rewards, s.reward_gradient, s.loss, nullptr};
  check(rh_train_step(plan_.get(), &arguments, s.workspace));
}

void CudaPeer::collect() {
  check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  const auto fetch = [](Array<float>& to, const float* from) {
    if (!to.empty()) check_cuda(cudaMemcpy(to.data(), from, to.size() * 4, cudaMemcpyDeviceToHost), "cudaMemcpy");
  };
  fetch(results.rewards, set_->rewards);
  fetch(results.reward_gradient, set_->reward_gradient);
  fetch(results.loss, set_->loss);
  fetch(results.gradients.values, set_->gradients.w1);
  fetch(results.input_gradient, set_->input_gradient);
  if (workload.operation != Operation::adamw) {
    // AdamW's first step takes little of a gradient but its sign, which rounding decides where it is nearly 0.
    results.parameters = results.first_moments = results.second_moments = {};
    return;
  }
  fetch(results.parameters.values, set_->parameters.w1);
  fetch(results.first_moments.values, set_->first_moments.w1);
  fetch(results.second_moments.values, set_->second_moments.w1);
}

}  // namespace rewardhead::bench
