// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/split.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "host/dataset/error.h"
#include "host/dataset/random.h"

namespace rewardhead::dataset {
namespace {

constexpr uint64_t kSplitStream = 0x73706C6974;  // "split" in ASCII

InputError error(const Preferences& preferences, const std::string& message) {
  return InputError(preferences.file.string() + ": " + message);
}

// Of each row, the index of its group among the sorted names.
struct Groups {
  std::vector<std::string> names;
  std::vector<size_t> of_row;
};

Groups find_groups(const Preferences& preferences, const Items& items) {
  Groups groups;
  groups.names = items.groups;
  std::sort(groups.names.begin(), groups.names.end());
  groups.names.erase(std::unique(groups.names.begin(), groups.names.end()), groups.names.end());
  for (const std::string& name : items.groups) {
    const auto found = std::lower_bound(groups.names.begin(), groups.names.end(), name);
    groups.of_row.push_back(static_cast<size_t>(found - groups.names.begin()));
  }
  for (size_t i = 0; i < preferences.chosen.size(); ++i) {
    const auto chosen = static_cast<size_t>(preferences.chosen[i]);
    const auto rejected = static_cast<size_t>(preferences.rejected[i]);
    if (groups.of_row[chosen] != groups.of_row[rejected]) {
      throw error(preferences, "pairs '" + items.ids[chosen] + "' of group '" + items.groups[chosen] + "' with '" +
                                   items.ids[rejected] + "' of group '" + items.groups[rejected] +
                                   "'; expected pairs within one group");
    }
  }
  return groups;
}

// Divides the pairs by whether `held_out` of their rows holds; a pair with one row on each side is dropped.
template <class HeldOut>
Split divide(const Preferences& preferences, const HeldOut& held_out) {
  std::vector<int64_t> train, held;
  for (int64_t i = 0; i < preferences.size(); ++i) {
    const bool chosen = held_out(static_cast<size_t>(preferences.chosen[static_cast<size_t>(i)]));
    const bool rejected = held_out(static_cast<size_t>(preferences.rejected[static_cast<size_t>(i)]));
    if (chosen == rejected) (chosen ? held : train).push_back(i);
  }
  if (train.empty()) throw error(preferences, "no pair is left to train on; hold out less");
  if (held.empty()) throw error(preferences, "no pair falls into the part held out; hold out more");
  return {select(preferences, train), select(preferences, held)};
}

// Draws about `fraction` of `count`, at least one.
std::vector<bool> draw(size_t count, double fraction, uint64_t seed) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  Random(seed, kSplitStream).shuffle(order);
  const auto drawn = std::max<size_t>(1, static_cast<size_t>(std::llround(fraction * static_cast<double>(count))));
  std::vector<bool> held_out(count);
  for (size_t i = 0; i < std::min(drawn, count); ++i) held_out[order[i]] = true;
  return held_out;
}

}  // namespace

Split split_folds(const Preferences& preferences, const Items& items, int folds, int fold) {
  if (items.groups.empty()) throw error(preferences, "folds need groups; name their column with --group-column");
  if (folds < 2) throw InputError("--folds is " + std::to_string(folds) + "; expected 2 or more");
  if (fold < 0 || fold >= folds) {
    throw InputError("--fold is " + std::to_string(fold) + "; expected 0 to " + std::to_string(folds - 1));
  }
  const Groups groups = find_groups(preferences, items);
  if (static_cast<size_t>(folds) > groups.names.size()) {
    throw InputError("--folds is " + std::to_string(folds) + ", but " + items.file.string() + " has " +
                     std::to_string(groups.names.size()) + " groups; expected at most one fold for each");
  }
  return divide(preferences, [&](size_t row) {
    return groups.of_row[row] % static_cast<size_t>(folds) == static_cast<size_t>(fold);
  });
}

Split split_holdout(const Preferences& preferences, const Items* items, double fraction, uint64_t seed) {
  if (!(fraction >= 0 && fraction < 1)) {
    throw InputError("--holdout is " + std::to_string(fraction) + "; expected 0 or more, and less than 1");
  }
  const bool grouped = items != nullptr && !items->groups.empty();
  const Groups groups = grouped ? find_groups(preferences, *items) : Groups{};
  if (fraction == 0) return {preferences, {}};
  if (grouped) {
    const std::vector<bool> held_out = draw(groups.names.size(), fraction, seed);
    return divide(preferences, [&](size_t row) { return held_out[groups.of_row[row]]; });
  }
  const std::vector<int32_t> rows = distinct_rows(preferences);
  const std::vector<bool> held_out = draw(rows.size(), fraction, seed);
  return divide(preferences, [&](size_t row) {
    return held_out[static_cast<size_t>(std::lower_bound(rows.begin(), rows.end(), row) - rows.begin())];
  });
}

}  // namespace rewardhead::dataset
