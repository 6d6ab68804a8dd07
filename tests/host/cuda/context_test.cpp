// SPDX-License-Identifier: Apache-2.0
//
// Contexts of a GPU, and what is refused: on devices that the software device passes for.
#include "tests/host/cuda/on_device.h"

namespace rewardhead::runtime::testing {
namespace {

using CudaContexts = CudaTest;

constexpr Size kMlp = {8, 5, 3, 4, 1}, kLinear = {300, 33, 0, 1500, 1};

TEST_F(CudaContexts, WhereThereIsNoDevice) {
  simt::Device none;
  none.count = 0;
  simt::set_device(none);
  Context context;
  expect_refused(open(nullptr, context, nullptr), RH_UNSUPPORTED,
                 "device is cuda: there is no GPU that CUDA can use (no NVIDIA driver was found)");
  EXPECT_EQ(context, nullptr);
  simt::Device old;
  old.old_driver = true;
  simt::set_device(old);
  expect_refused(open(nullptr, context, nullptr), RH_UNSUPPORTED,
                 "(the NVIDIA driver is for CUDA 12.4; 13.0 or later is needed)");
  EXPECT_EQ(rh_context_device(make_context().get()), RH_DEVICE_CPU);
}

TEST_F(CudaContexts, ContextsSayWhatTheyUse) {
  const Context best = open(), asked = open("sm80");
  EXPECT_EQ(rh_context_device(best.get()), RH_DEVICE_CUDA);
  EXPECT_STREQ(rh_context_isa(best.get()), "sm90a");
  EXPECT_STREQ(rh_context_isa(asked.get()), "sm80");
  EXPECT_EQ(rh_context_threads(best.get()), 1);
  EXPECT_EQ(rh_context_kernel_count(best.get()), 15);
  for (int i = 0; i < rh_context_kernel_count(best.get()); ++i) {
    rh_kernel_info info = {sizeof info, nullptr, nullptr, 0, nullptr};
    ASSERT_EQ(rh_context_kernel(best.get(), i, &info), RH_OK);
    EXPECT_EQ(info.chosen, std::string(info.implementation) == "sm90a");
    const std::string why = info.chosen ? "the best that this GPU runs" : "predicted to be slower than sm90a";
    EXPECT_EQ(info.reason, why + ", not checked yet");
  }
  simt::set_device({8, 6});
  EXPECT_STREQ(rh_context_isa(open().get()), "sm80");
  Context context;
  expect_refused(open("sm90a", context, nullptr), RH_UNSUPPORTED,
                 "isa is \"sm90a\", which needs compute capability 9.0; the GPU has 8.6");
  expect_refused(open("avx2", context, nullptr), RH_INVALID_ARGUMENT, "isa is \"avx2\"; expected one of auto, sm80");
  const rh_context_options options = {sizeof options, RH_DEVICE_CPU, nullptr, 1, nullptr, stream_};
  rh_context* created = nullptr;
  expect_refused(rh_context_create(&options, &created), RH_INVALID_ARGUMENT,
                 "stream is given, but the device is not cuda");
}

// A library that is there and does not work, as where its driver is too old.
TEST_F(CudaContexts, CublasLtIsOpenedByThePlanThatUsesIt) {
  const Context gpu = open("cublaslt");
  const auto reason = [&] {
    rh_kernel_info info = {sizeof info, nullptr, nullptr, 0, nullptr};
    EXPECT_EQ(rh_context_kernel(gpu.get(), 2, &info), RH_OK);
    EXPECT_STREQ(info.implementation, "cublaslt");
    EXPECT_EQ(info.chosen, 1);
    return std::string(info.reason);
  };
  EXPECT_EQ(reason(), "asked for, not checked yet");
  const rh_plan_options linear = options_of(kLinear), options = options_of(kMlp);
  make_plan(gpu.get(), linear);  // checks what is shared, and wants no product
  EXPECT_EQ(reason(), "asked for, not checked yet");
  simt::Device without;
  without.no_cublaslt = true;
  simt::set_device(without);
  rh_plan* plan = nullptr;
  expect_refused(rh_plan_create(gpu.get(), &options, &plan), RH_UNSUPPORTED,
                 "isa is \"cublaslt\", which does not work here: cublaslt: cuBLASLt: cublasLtCreate returned status 1");
  EXPECT_EQ(reason(), "cuBLASLt: cublasLtCreate returned status 1");
}

TEST_F(CudaContexts, WhatCudaRefusesIsADeviceError) {
  Context context;
  int no_stream = 0;
  ASSERT_EQ(open(nullptr, context, &no_stream), RH_OK);  // not looked at before the first launch
  const Plan plan = make_plan(context.get(), options_of(kMlp));
  const DeviceWorkspace memory(plan.get(), stream_);
  Head step(kMlp);
  const OnDevice device(step, stream_);
  expect_refused(step.call(forward, plan.get(), memory.get()), RH_DEVICE_ERROR,
                 "forward: cudaErrorInvalidResourceHandle");
}

}  // namespace
}  // namespace rewardhead::runtime::testing
