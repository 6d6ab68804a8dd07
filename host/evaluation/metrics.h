// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "host/dataset/preferences.h"
#include "host/evaluation/bootstrap.h"

namespace rewardhead::evaluation {

// How well rewards agree with comparisons. Notation: d = r[chosen] - r[rejected], p = sigmoid(d), y = the label (1
// where the file has none). A pair with y = 1/2 is undecided; of the others, the preferred response is the chosen one
// where y > 1/2 and the rejected one where y < 1/2. A hit is 1 where the preferred response has the larger reward, 1/2
// where the rewards are equal, else 0. "Rows" are the distinct responses that the pairs name. What is undefined (no
// decided pair, no lengths, no variance) is nullopt.
struct Metrics {
  int64_t pairs = 0;
  double loss = 0;                 // sum of weight (y softplus(-(d - margin)) + (1 - y) softplus(d - margin)) / pairs
  std::optional<double> accuracy;  // mean hit over the decided pairs
  std::optional<double> accuracy_longer_rule;  // the same for the rule "the longer response wins"; equal lengths 1/2
  std::optional<Interval> accuracy_interval;   // bootstrap.h, over groups, or over pairs where there are no groups
  double nll = 0;                              // mean of y softplus(-d) + (1 - y) softplus(d), in nats
  double brier = 0;                            // mean of (p - y)^2
  std::optional<double> ece;  // sum over 15 equal bins of max(p, 1 - p) on [1/2, 1] of share * |hits - confidence|
  double margin_mean = 0;     // mean d
  double reward_mean = 0;     // over the rows
  double reward_std = 0;      // over the rows, divisor n
  std::optional<double> accuracy_longer_chosen;     // over decided pairs whose preferred response is the longer
  std::optional<double> accuracy_shorter_chosen;    // ... the shorter
  std::optional<double> reward_length_correlation;  // Pearson, over the rows
};

struct Evaluation {
  Metrics all;
  std::map<std::string, Metrics> groups;  // by group name; empty without groups
};

// `rewards` holds a reward for each embedding row; only those that pairs name are read. `pairs` is not empty. `items`
// (or null) brings groups and lengths; a pair's group is that of its chosen response (split.h refuses pairs across
// groups). All sums are fp64, in the order of the pairs. Throws InputError where a reward is not finite.
Evaluation evaluate(std::span<const float> rewards, const dataset::Preferences& pairs, const dataset::Items* items);

// Metrics::accuracy_longer_rule alone.
std::optional<double> longer_rule_accuracy(const dataset::Preferences& pairs, const dataset::Items* items);

// `nll` and `accuracy` alone, for looking on while training; no reward need be finite.
struct Fit {
  double nll = 0;
  std::optional<double> accuracy;
};
Fit measure_fit(std::span<const float> rewards, const dataset::Preferences& pairs);

}  // namespace rewardhead::evaluation
