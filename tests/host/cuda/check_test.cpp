// SPDX-License-Identifier: Apache-2.0
//
// Kernels that compute wrongly, on a software device whose instructions do: plans notice, say so, and take the next.
// Kernels that fault there: plans say so, and that CUDA is at its end.
#include <atomic>
#include <string>
#include <thread>

#include "tests/host/cuda/on_device.h"

namespace rewardhead::runtime::testing {
namespace {

constexpr Size kMlp = {8, 5, 3, 4, 1}, kLinear = {8, 5, 0, 4, 1};

class CudaCheck : public CudaTest {
 protected:
  rh_kernel_info kernel(const Context& context, int row) {
    rh_kernel_info info = {sizeof info, nullptr, nullptr, 0, nullptr};
    EXPECT_EQ(rh_context_kernel(context.get(), row, &info), RH_OK);
    return info;
  }
  // Empty, or what the library says.
  std::string refusal(const Context& context, const Size& size, rh_status expected = RH_UNSUPPORTED) {
    const rh_plan_options options = options_of(size);
    rh_plan* plan = nullptr;
    const rh_status status = rh_plan_create(context.get(), &options, &plan);
    rh_plan_destroy(plan);
    if (status == RH_OK) return {};
    EXPECT_EQ(status, expected);
    EXPECT_EQ(plan, nullptr);
    return rh_last_error_message();
  }
  static bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }
};

TEST_F(CudaCheck, AllAgreeOnASoundDevice) {
  for (const char* isa : kIsas) {
    const Context gpu = open(isa);
    EXPECT_EQ(refusal(gpu, kMlp), "");
    const int row = isa == std::string("sm90a") ? 0 : isa == std::string("sm80") ? 1 : 2;
    EXPECT_STREQ(kernel(gpu, row).reason, "asked for, agrees with the CPU");
  }
}

TEST_F(CudaCheck, TheNextTakesOver) {
  simt::Device device;
  device.broken_wgmma = true;
  simt::set_device(device);
  const Context gpu = open();
  EXPECT_STREQ(rh_context_isa(gpu.get()), "sm90a");
  const rh_kernel_info before = kernel(gpu, 0);
  const std::string told = before.reason;
  EXPECT_EQ(refusal(gpu, kMlp), "");
  EXPECT_EQ(before.reason, told) << "what was told stays";
  EXPECT_STREQ(rh_context_isa(gpu.get()), "sm80");
  EXPECT_TRUE(has(kernel(gpu, 0).reason, "failed the check of its products on this GPU: rewards["))
      << kernel(gpu, 0).reason;
  EXPECT_EQ(kernel(gpu, 0).chosen, 0);
  EXPECT_STREQ(kernel(gpu, 1).reason, "the best that this GPU runs, agrees with the CPU");
  EXPECT_EQ(kernel(gpu, 1).chosen, 1);
  EXPECT_STREQ(kernel(gpu, 2).reason, "predicted to be slower than sm80, not checked yet");

  // And computes what it should.
  const Context cpu = make_context();
  const Plan plan = make_plan(gpu.get(), options_of(kMlp)), cpu_plan = make_plan(cpu.get(), options_of(kMlp));
  const DeviceWorkspace memory(plan.get(), stream_);
  Head a(kMlp), b(kMlp);
  OnDevice on_device(a, stream_);
  ASSERT_EQ(a.call(forward, plan.get(), memory.get()), RH_OK) << rh_last_error_message();
  ASSERT_EQ(b.call(forward, cpu_plan.get(), WorkspaceMemory(cpu_plan.get()).get()), RH_OK);
  on_device.fetch();
  for (size_t i = 0; i < b.reward_data.size(); ++i) EXPECT_NEAR(a.reward_data[i], b.reward_data[i], 1e-3);
}

TEST_F(CudaCheck, CublasLtIsTheLast) {
  simt::Device device;
  device.broken_mma = true;  // sm90a's sums of mask bits, and all of sm80's products
  simt::set_device(device);
  const Context gpu = open();
  EXPECT_EQ(refusal(gpu, kMlp), "");
  EXPECT_STREQ(rh_context_isa(gpu.get()), "cublaslt");
  EXPECT_TRUE(has(kernel(gpu, 0).reason, "failed the check of its products")) << kernel(gpu, 0).reason;
  EXPECT_TRUE(has(kernel(gpu, 1).reason, "failed the check of its products")) << kernel(gpu, 1).reason;
  EXPECT_STREQ(kernel(gpu, 2).reason, "the best that this GPU runs, agrees with the CPU");
}

TEST_F(CudaCheck, WhereNoneIsLeft) {
  simt::Device device;
  device.broken_mma = device.broken_cublaslt = true;
  simt::set_device(device);
  const Context gpu = open();
  const std::string said = refusal(gpu, kMlp);
  EXPECT_TRUE(has(said, "no implementation is left for this GPU: sm90a: failed the check")) << said;
  EXPECT_TRUE(has(said, "; sm80: failed the check")) << said;
  EXPECT_TRUE(has(said, "; cublaslt: failed the check")) << said;
  EXPECT_EQ(refusal(gpu, kLinear), "") << "a linear head has no such products";
}

TEST_F(CudaCheck, ANameIsAnOrder) {
  simt::Device device;
  device.broken_wgmma = true;
  simt::set_device(device);
  const Context gpu = open("sm90a");
  const std::string said = refusal(gpu, kMlp);
  EXPECT_TRUE(has(said, "isa is \"sm90a\", which does not work here: sm90a: failed the check of its products")) << said;
  EXPECT_STREQ(rh_context_isa(gpu.get()), "sm90a");
}

TEST_F(CudaCheck, WhatAllShareIsCheckedForEveryPlan) {
  simt::Device device;
  device.broken_shuffle = true;
  simt::set_device(device);
  const Context gpu = open();
  for (const Size& size : {kLinear, kMlp}) {
    const std::string said = refusal(gpu, size);
    EXPECT_TRUE(has(said, "what all implementations share failed the check of its ")) << said;
  }
  EXPECT_TRUE(has(kernel(gpu, 0).reason, "failed the check")) << kernel(gpu, 0).reason;
}

// CUDA returns a fault's error from every later call, so that nothing can take over in this process.
TEST_F(CudaCheck, AfterAFaultNothingTakesOver) {
  for (const bool by_name : {false, true}) {
    simt::reset_runtime();
    simt::Device device;
    device.faulting_wgmma = true;
    simt::set_device(device);
    const Context gpu = open(by_name ? "sm90a" : nullptr), cpu = make_context();
    EXPECT_EQ(refusal(gpu, kLinear), "") << "a linear head does not wait for what it does not use";
    const std::string said = refusal(gpu, kMlp, RH_DEVICE_ERROR);
    EXPECT_TRUE(has(said, "sm90a: failed the check of its products on this GPU: ")) << said;
    EXPECT_TRUE(has(said, ": cudaErrorLaunchFailure, ")) << said;
    EXPECT_TRUE(has(said, "CUDA can do nothing more in this process")) << said;
    for (const Size& size : {kMlp, kLinear}) EXPECT_EQ(refusal(gpu, size, RH_DEVICE_ERROR), said) << "nor later";
    EXPECT_STREQ(rh_context_isa(gpu.get()), "sm90a") << "nothing has taken over";
    for (int row = 0; row < 3; ++row) EXPECT_EQ(kernel(gpu, row).reason, said);
    Context another;
    EXPECT_EQ(open(nullptr, another, nullptr), RH_DEVICE_ERROR);
    EXPECT_TRUE(has(rh_last_error_message(), "cudaErrorLaunchFailure")) << rh_last_error_message();

    // The CPU does not need CUDA.
    const Plan plan = make_plan(cpu.get(), options_of(kMlp));
    Head head(kMlp);
    EXPECT_EQ(head.call(forward, plan.get(), WorkspaceMemory(plan.get()).get()), RH_OK) << rh_last_error_message();
  }
}

TEST_F(CudaCheck, AnImplementationThatDoesNotUseWhatFaultsWorks) {
  simt::Device device;
  device.faulting_wgmma = true;
  simt::set_device(device);
  const Context gpu = open("sm80");
  EXPECT_EQ(refusal(gpu, kMlp), "");
  EXPECT_STREQ(kernel(gpu, 1).reason, "asked for, agrees with the CPU");
}

TEST_F(CudaCheck, AFaultOfWhatAllShareIsNamed) {
  simt::Device device;
  device.faulting_shuffle = true;
  simt::set_device(device);
  const Context gpu = open();
  const std::string said = refusal(gpu, kMlp, RH_DEVICE_ERROR);
  EXPECT_TRUE(has(said, "what all implementations share failed the check of its linear head on this GPU: ")) << said;
  EXPECT_TRUE(has(said, "CUDA can do nothing more in this process")) << said;
  EXPECT_EQ(refusal(gpu, kLinear, RH_DEVICE_ERROR), said);
}

TEST_F(CudaCheck, AnExecuteAfterAFaultSaysWhatCudaSays) {
  const Context sound = open();
  const Plan plan = make_plan(sound.get(), options_of(kMlp));
  const DeviceWorkspace memory(plan.get(), stream_);
  Head head(kMlp);
  const OnDevice on_device(head, stream_);
  check(cudaStreamSynchronize(stream_));
  simt::Device device;
  device.faulting_wgmma = true;
  simt::set_device(device);
  EXPECT_EQ(head.call(forward, plan.get(), memory.get()), RH_OK) << "enqueues";
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorLaunchFailure);
  EXPECT_EQ(head.call(forward, plan.get(), memory.get()), RH_DEVICE_ERROR);
  EXPECT_TRUE(has(rh_last_error_message(), ": cudaErrorLaunchFailure, ")) << rh_last_error_message();
}

TEST_F(CudaCheck, OlderGpusAreRefused) {
  simt::set_device({8, 6});
  const Context ampere = open();
  EXPECT_STREQ(rh_context_isa(ampere.get()), "sm80");
  EXPECT_STREQ(kernel(ampere, 0).reason, "the GPU lacks compute capability 9.0");
  simt::set_device({7, 5});
  Context turing;
  EXPECT_EQ(open(nullptr, turing, nullptr), RH_UNSUPPORTED);
  EXPECT_STREQ(rh_last_error_message(),
               "device is cuda: the GPU's compute capability is 7.5; 8.0 or later is needed");
}

// A caller's kernel that has faulted is no fault of these.
TEST_F(CudaCheck, CannotBeDoneAfterAnotherKernelHasFaulted) {
  const Context gpu = open();
  simt::Device device;
  device.faulting_shuffle = true;
  simt::set_device(device);
  {
    const Context other = open();
    refusal(other, kLinear, RH_DEVICE_ERROR);
  }
  simt::set_device({});
  const std::string said = refusal(gpu, kMlp, RH_DEVICE_ERROR);
  EXPECT_TRUE(has(said, "cudaErrorLaunchFailure")) << said;
  EXPECT_FALSE(has(said, "failed the check")) << said;
}

TEST_F(CudaCheck, IsDoneOnceAndLeavesNothing) {
  const Context gpu = open();
  const simt::Counts start = simt::counts();
  EXPECT_EQ(refusal(gpu, kMlp), "");
  const simt::Counts first = simt::counts();
  EXPECT_GT(first.launches, start.launches);
  EXPECT_EQ(first.live_allocations, start.live_allocations);
  EXPECT_EQ(first.live_streams, start.live_streams);
  std::vector<std::thread> threads;
  std::atomic<int> failed{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const rh_plan_options options = options_of(kMlp);
      rh_plan* plan = nullptr;
      if (rh_plan_create(gpu.get(), &options, &plan) != RH_OK) ++failed;
      rh_plan_destroy(plan);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(simt::counts().launches, first.launches);
}

// It says nothing about the kernels, so the next plan tries again.
TEST_F(CudaCheck, CannotBeDoneWhileTheThreadCaptures) {
  const Context gpu = open();
  cudaGraph_t graph = nullptr;
  check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal));
  EXPECT_TRUE(has(refusal(gpu, kMlp, RH_DEVICE_ERROR), "kernels cannot be tried on the GPU: cudaErrorStreamCapture"));
  cudaStreamEndCapture(stream_, &graph);
  cudaGetLastError();
  EXPECT_EQ(refusal(gpu, kMlp), "");
  EXPECT_STREQ(rh_context_isa(gpu.get()), "sm90a");
}

}  // namespace
}  // namespace rewardhead::runtime::testing
