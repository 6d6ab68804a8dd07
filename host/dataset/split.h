// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/dataset/preferences.h"

namespace rewardhead::dataset {

// Both parts hold pairs, except that nothing is held out where the fraction is 0.
struct Split {
  Preferences train;
  Preferences held_out;
};

// Both functions throw InputError where a part would hold no pair, and where the two items of a pair differ in their
// group (naming the file and both ids).

// Holds out the groups number fold, fold + folds, ... of the sorted names of all groups of the items. Needs groups;
// 2 <= folds <= groups, 0 <= fold < folds.
Split split_folds(const Preferences& preferences, const Items& items, int folds, int fold);

// Holds out about `fraction`, in [0, 1), of the groups; without groups (items null or no groups), of the items that
// occur in pairs: pairs with both items held out are held out, pairs with one are dropped, so no item is on both sides.
// The draw: the n group names, sorted (or the n rows, ascending) are shuffled by Random(seed, 0x73706C6974), and the
// first max(1, round(fraction n)) are held out.
Split split_holdout(const Preferences& preferences, const Items* items, double fraction, uint64_t seed);

}  // namespace rewardhead::dataset
