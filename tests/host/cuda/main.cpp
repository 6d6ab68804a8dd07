// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdio>

#include "rewardhead/rewardhead.h"
#if REWARDHEAD_SIMT
#include "tests/simt/bank_conflict_listener.h"
#endif

// On what the tests run, or that there is nothing to run them on.
int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (::testing::GTEST_FLAG(list_tests)) return RUN_ALL_TESTS();
#if REWARDHEAD_SIMT
  std::printf("These tests run on the software device (tests/simt), not on a GPU.\n");
  simt::testing::look_for_bank_conflicts_in_tests();
#else
  constexpr int kSkipped = 77;  // what ctest takes for a skipped test
  const rh_context_options options = {sizeof options, RH_DEVICE_CUDA, nullptr, 0, nullptr, nullptr};
  rh_context* context = nullptr;
  const rh_status status = rh_context_create(&options, &context);
  rh_context_destroy(context);
  if (status == RH_UNSUPPORTED) {
    std::printf("gpu_runtime_tests: Skipped\n%s\n", rh_last_error_message());
    return kSkipped;
  }
  std::printf("These tests run on a GPU.\n");
#endif
  return RUN_ALL_TESTS();
}
