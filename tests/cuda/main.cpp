// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <cstdlib>

#include "tests/cuda/device.h"
#if REWARDHEAD_SIMT
#include "tests/simt/bank_conflict_listener.h"
#endif

namespace rewardhead::kernels::cuda::testing {
namespace {

INSTANTIATE_TEST_SUITE_P(, DeviceTest, ::testing::ValuesIn(kSchedules),
                         [](const auto& test) { return std::string(test.param); });

constexpr int kSkipped = 77;  // what ctest takes for a skipped test

// On what the tests run, or that there is nothing to run them on.
int run() {
#if REWARDHEAD_SIMT
  std::printf("These tests run on the software device (tests/simt), not on a GPU.\n");
  simt::testing::look_for_bank_conflicts_in_tests();
#else
  if (capability() < 80) {
    std::printf("gpu_tests: Skipped\nthere is no GPU of compute capability 8.0 or later, so nothing was tested\n");
    return kSkipped;
  }
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0));
  std::printf("These tests run on a GPU: %s, compute capability %d.%d.\n", properties.name, properties.major,
              properties.minor);
#endif
  return RUN_ALL_TESTS();
}

}  // namespace
}  // namespace rewardhead::kernels::cuda::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (::testing::GTEST_FLAG(list_tests)) return RUN_ALL_TESTS();
  return rewardhead::kernels::cuda::testing::run();
}
