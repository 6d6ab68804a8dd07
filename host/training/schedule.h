// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "host/training/options.h"

namespace rewardhead::training {

// The learning rate of step t of T (1 <= t <= T) with W warm-up steps, 0 <= W <= T:
//   t <= W            base t / W
//   t > W             with p = (t - W - 1) / (T - W), from 0 to less than 1:
//     constant        base
//     linear          base (1 - p)
//     cosine          base (1 + cos(pi p)) / 2
double scheduled_rate(Schedule schedule, double base, int64_t step, int64_t total_steps, int64_t warmup);

}  // namespace rewardhead::training
