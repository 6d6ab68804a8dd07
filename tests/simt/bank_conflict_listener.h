// SPDX-License-Identifier: Apache-2.0
//
// For programs that run kernels on the software device: with BANK_CONFLICTS in the environment, a test whose kernels
// had a bank conflict fails. It takes time, so that one test of CTest does it for some.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/simt/bank_conflicts.h"

namespace simt::testing {

class BankConflictListener : public ::testing::EmptyTestEventListener {
  void OnTestStart(const ::testing::TestInfo&) override { look_for_bank_conflicts(true); }
  void OnTestEnd(const ::testing::TestInfo&) override {
    const BankConflict worst = worst_bank_conflict();
    if (worst.ways > 1) ADD_FAILURE() << "bank conflict, " << worst.access;
  }
};

inline void look_for_bank_conflicts_in_tests() {
  if (std::getenv("BANK_CONFLICTS")) {
    ::testing::UnitTest::GetInstance()->listeners().Append(new BankConflictListener);
  }
}

}  // namespace simt::testing
