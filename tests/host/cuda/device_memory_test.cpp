// SPDX-License-Identifier: Apache-2.0
//
// What the trainer and the scorer throw where CUDA refuses, in one program with the library's own sources.
#include "host/runtime/device_memory.h"

#include <gtest/gtest.h>

#include "tests/simt/runtime.h"

namespace rewardhead::runtime {
namespace {

template <class Call>
void expect_error(const Call& call, rh_status status, const std::string& message) {
  try {
    call();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), status);
    EXPECT_EQ(error.what(), message);
  }
}

TEST(DeviceMemory, WhatCudaRefusesIsAnErrorWithItsWords) {
  simt::reset_runtime();
  const float on_the_host = 0;
  float to = 0;
  expect_error(
      [&] { download(&to, &on_the_host, sizeof to, nullptr); }, RH_DEVICE_ERROR,
      "copying from the GPU: cudaErrorInvalidValue, " + std::string(cudaGetErrorString(cudaErrorInvalidValue)));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "it is not the next caller's";
}

}  // namespace
}  // namespace rewardhead::runtime
