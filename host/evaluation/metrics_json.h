// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

#include "host/evaluation/metrics.h"

namespace rewardhead::evaluation {

// The fields of Metrics under their own names, then `accuracy_interval_over` ("groups", "pairs", or null where there is
// no interval), and `groups`: the same for each group. What is undefined is null.
nlohmann::ordered_json to_json(const Evaluation& evaluation);

}  // namespace rewardhead::evaluation
