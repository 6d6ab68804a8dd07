// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/dataset/preferences.h"

namespace rewardhead::dataset {

struct Split {
  Preferences train;
  Preferences held_out;  // may be empty
};

// A pair whose two items differ in their group is an InputError naming the file and both ids; both functions check it.
// Holds out every `folds`-th of the sorted group names, starting at `fold`. Needs groups.
Split split_folds(const Preferences& preferences, const Items& items, int folds, int fold);

// Holds out about `fraction` of the groups, drawn by seed; without groups (items null or no groups), of the items that
// occur in pairs: pairs with both items held out are held out, pairs with one are dropped, so no item is on both sides.
Split split_holdout(const Preferences& preferences, const Items* items, double fraction, uint64_t seed);

}  // namespace rewardhead::dataset
