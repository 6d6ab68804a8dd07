// SPDX-License-Identifier: Apache-2.0
#include "host/training/schedule.h"

#include <gtest/gtest.h>

namespace rewardhead::training {
namespace {

// By hand, from the formula in schedule.h: 8 steps, 4 of them warm-up, so p = 0, 1/4, 1/2, 3/4 in steps 5 to 8.
TEST(Schedule, WarmsUpThenFollowsItsCurve) {
  const double warm[] = {0.5, 1, 1.5, 2};
  const double constant[] = {2, 2, 2, 2}, linear[] = {2, 1.5, 1, 0.5};
  const double cosine[] = {2, 1.7071067811865475, 1, 0.2928932188134525};  // 1 + cos(0), cos(pi/4), ...
  for (int step = 1; step <= 8; ++step) {
    const auto rate = [&](Schedule schedule) { return scheduled_rate(schedule, 2, step, 8, 4); };
    EXPECT_DOUBLE_EQ(rate(Schedule::constant), step <= 4 ? warm[step - 1] : constant[step - 5]) << step;
    EXPECT_DOUBLE_EQ(rate(Schedule::linear), step <= 4 ? warm[step - 1] : linear[step - 5]) << step;
    EXPECT_DOUBLE_EQ(rate(Schedule::cosine), step <= 4 ? warm[step - 1] : cosine[step - 5]) << step;
  }
}

TEST(Schedule, WithoutWarmupTheFirstStepHasTheWholeRate) {
  for (const Schedule schedule : {Schedule::constant, Schedule::linear, Schedule::cosine}) {
    EXPECT_EQ(scheduled_rate(schedule, 3, 1, 10, 0), 3);
  }
}

TEST(Schedule, WarmupMayLastTheWholeRun) {
  for (const Schedule schedule : {Schedule::constant, Schedule::linear, Schedule::cosine}) {
    EXPECT_EQ(scheduled_rate(schedule, 3, 10, 10, 10), 3);
  }
}

}  // namespace
}  // namespace rewardhead::training
