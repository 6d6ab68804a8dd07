// SPDX-License-Identifier: Apache-2.0
//
// A Step's arrays on the device, and a context to run it on: what the tests of the C interface on a GPU share. The GPU
// is the software device; tests that ask nothing else of it are compiled for a real one, too.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <utility>

#include "tests/host/runtime/step.h"
#if REWARDHEAD_SIMT
#include "tests/simt/runtime.h"
#endif

namespace rewardhead::runtime::testing {

inline void expect_refused(rh_status status, rh_status expected, const char* part) {
  EXPECT_EQ(status, expected) << part;
  EXPECT_NE(std::string(rh_last_error_message()).find(part), std::string::npos) << rh_last_error_message();
}

inline void check(cudaError_t error) { ASSERT_EQ(error, cudaSuccess) << cudaGetErrorName(error); }

// A Step's arrays on the device: its pointers become theirs.
class OnDevice {
 public:
  OnDevice(Step& step, cudaStream_t stream) : stream_(stream) {
    step.x.data = put(step.x_data);
    if (step.pairs.chosen) step.pairs.chosen = put(step.chosen);
    if (step.pairs.rejected) step.pairs.rejected = put(step.rejected);
    step.pairs.margin = put(step.margin);
    step.pairs.weight = put(step.weight);
    step.pairs.label = put(step.label);
    for (auto [data, view] : {std::pair{&step.parameter_data, &step.parameters},
                              {&step.gradient_data, &step.gradients},
                              {&step.first_data, &step.first_moments},
                              {&step.second_data, &step.second_moments}}) {
      view->w1 = bring_back(data->w1);
      if (!data->mlp) continue;
      view->b1 = bring_back(data->b1);
      view->w2 = bring_back(data->w2);
      view->b2 = bring_back(data->b2);
    }
    step.rewards = bring_back(step.reward_data);
    step.reward_gradient = bring_back(step.reward_gradient_data);
    if (step.input_gradient) step.input_gradient = bring_back(step.input_gradient_data);
    step.loss = bring_back(step.loss_data);
    step.gradient_norm = bring_back(step.gradient_norm_data);
  }
  ~OnDevice() {
    for (void* memory : memory_) cudaFree(memory);
  }
  OnDevice(const OnDevice&) = delete;

  // To and from the vectors of the Step.
  void set() {
    for (const auto& [host, device] : outputs_) {
      check(cudaMemcpyAsync(device, host->data(), host->size() * 4, cudaMemcpyHostToDevice, stream_));
    }
  }
  void fetch() {
    for (const auto& [host, device] : outputs_) {
      check(cudaMemcpyAsync(host->data(), device, host->size() * 4, cudaMemcpyDeviceToHost, stream_));
    }
    check(cudaStreamSynchronize(stream_));
  }

 private:
  template <class T>
  T* put(const std::vector<T>& values) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, values.size() * sizeof(T)));
    check(cudaMemcpyAsync(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice, stream_));
    memory_.push_back(memory);
    return static_cast<T*>(memory);
  }
  float* bring_back(std::vector<float>& values) {
    outputs_.push_back({&values, put(values)});
    return outputs_.back().second;
  }

  cudaStream_t stream_;
  std::vector<void*> memory_;
  std::vector<std::pair<std::vector<float>*, float*>> outputs_;
};

class DeviceWorkspace {
 public:
  DeviceWorkspace(const rh_plan* plan, cudaStream_t stream) : bytes_(rh_plan_workspace_bytes(plan)), stream_(stream) {
    check(cudaMalloc(&data_, bytes_));
    poison();
  }
  ~DeviceWorkspace() { cudaFree(data_); }
  DeviceWorkspace(const DeviceWorkspace&) = delete;
  void poison() { check(cudaMemsetAsync(data_, 0xff, bytes_, stream_)); }  // NaN everywhere
  rh_workspace get() const { return {data_, bytes_}; }

 private:
  size_t bytes_;
  cudaStream_t stream_;
  void* data_ = nullptr;
};

inline constexpr const char* kIsas[] = {"sm80", "sm90a", "cublaslt"};

class CudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
#if REWARDHEAD_SIMT
    simt::reset_runtime();
    simt::set_device({});
#endif
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }
#if REWARDHEAD_SIMT
  void TearDown() override {
    simt::reset_runtime();  // destroys the stream, whatever has become of the device
    simt::set_device({});
  }
#else
  void TearDown() override { check(cudaStreamDestroy(stream_)); }
#endif

  rh_status open(const char* isa, Context& context, void* stream) {
    const rh_context_options options = {sizeof options, RH_DEVICE_CUDA, isa, 0, nullptr, stream};
    rh_context* created = nullptr;
    const rh_status status = rh_context_create(&options, &created);
    context.reset(created);
    return status;
  }
  Context open(const char* isa = nullptr) {
    Context context;
    EXPECT_EQ(open(isa, context, stream_), RH_OK) << rh_last_error_message();
    return context;
  }
  // Of kIsas, those that the GPU and the machine have: on the software device all.
  std::vector<const char*> isas() {
    std::vector<const char*> found;
    for (const char* isa : kIsas) {
      Context context;
      rh_plan* plan = nullptr;
      const rh_plan_options options = plan_options(2, 1, 1, 1);
      if (open(isa, context, stream_) == RH_OK) {
        rh_plan_create(context.get(), &options, &plan);
        rh_plan_destroy(plan);
      }
      const std::string said = plan ? "" : rh_last_error_message();
      if (said.find("which needs compute capability") != said.npos) continue;
      if (said.find("was not found by the dynamic linker") != said.npos) continue;
      EXPECT_EQ(said, "");
      found.push_back(isa);
    }
#if REWARDHEAD_SIMT
    EXPECT_EQ(found.size(), std::size(kIsas));
#endif
    return found;
  }

  cudaStream_t stream_ = nullptr;
};

struct Size {
  int64_t rows, input, hidden, pairs, members;
};
inline rh_plan_options options_of(const Size& size) {
  const bool has_dx = size.hidden || size.members == 1;
  rh_plan_options options =
      plan_options(size.rows, size.input, size.hidden, size.pairs, RH_TRAIN | (has_dx ? RH_INPUT_GRADIENT : 0));
  options.members = size.members;
  return options;
}

struct Head : Step {
  explicit Head(const Size& size, bool adjacent = false)
      : Step(size.rows, size.input, size.hidden, adjacent ? std::min(size.pairs, size.rows / 2) : size.pairs, 1,
             size.members) {
    if (adjacent) pairs.chosen = pairs.rejected = nullptr;
    if (!(options_of(size).operations & RH_INPUT_GRADIENT)) input_gradient = nullptr;
    options.epsilon = 1e-2;  // smooth around gradients of 0
  }
};

}  // namespace rewardhead::runtime::testing
