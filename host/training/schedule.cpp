// SPDX-License-Identifier: Apache-2.0
#include "host/training/schedule.h"

#include <cmath>
#include <numbers>

namespace rewardhead::training {

double scheduled_rate(Schedule schedule, double base, int64_t step, int64_t total_steps, int64_t warmup) {
  if (step <= warmup) return base * static_cast<double>(step) / static_cast<double>(warmup);
  const double progress = static_cast<double>(step - warmup - 1) / static_cast<double>(total_steps - warmup);
  switch (schedule) {
    case Schedule::constant:
      return base;
    case Schedule::linear:
      return base * (1 - progress);
    case Schedule::cosine:
      return base * (1 + std::cos(std::numbers::pi * progress)) / 2;
  }
  return base;
}

}  // namespace rewardhead::training
