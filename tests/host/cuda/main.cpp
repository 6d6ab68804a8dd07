// SPDX-License-Identifier: Apache-2.0
#include "tests/simt/bank_conflict_listener.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  simt::testing::look_for_bank_conflicts_in_tests();
  return RUN_ALL_TESTS();
}
