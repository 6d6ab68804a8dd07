// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace rewardhead::evaluation {

struct Interval {
  double low, high;
};

// A sum of hits over a number of decided pairs: one group of pairs that are resampled together.
struct Cluster {
  double hits;
  int64_t count;
};

// 95 % percentile interval of sum(hits) / sum(count) when the clusters are drawn with replacement (Efron and
// Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3): 2,000 draws from Random(0, kBootstrapStream),
// quantiles by linear interpolation. Of more than kBootstrapClusters the draws would take long and show the normal
// distribution that they tend to: the interval is then the ratio +- 1.96 of its standard errors (linearised). Clusters
// without decided pairs must be left out; fewer than two have no interval.
inline constexpr uint64_t kBootstrapStream = 0x626F6F74;  // "boot" in ASCII
inline constexpr int kBootstrapDraws = 2000;
inline constexpr size_t kBootstrapClusters = 10'000;
std::optional<Interval> bootstrap_interval(std::span<const Cluster> clusters);

}  // namespace rewardhead::evaluation
