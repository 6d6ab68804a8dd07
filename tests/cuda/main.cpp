// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda/device.h"

namespace rewardhead::kernels::cuda::testing {
INSTANTIATE_TEST_SUITE_P(, DeviceTest, ::testing::ValuesIn(kSchedules),
                         [](const auto& test) { return std::string(test.param); });
}  // namespace rewardhead::kernels::cuda::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
