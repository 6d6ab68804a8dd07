// SPDX-License-Identifier: Apache-2.0
#include "host/evaluation/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "host/dataset/random.h"

namespace rewardhead::evaluation {
namespace {

// The quantile of sorted values at `probability`, between the two nearest order statistics (Hyndman and Fan's type 7).
double quantile(const std::vector<double>& sorted, double probability) {
  const double position = probability * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], position - static_cast<double>(below));
}

}  // namespace

std::optional<Interval> bootstrap_interval(std::span<const Cluster> clusters) {
  if (clusters.size() < 2) return std::nullopt;
  Random random(0, kBootstrapStream);
  std::vector<double> ratios(kBootstrapDraws);
  for (double& ratio : ratios) {
    Cluster sum{0, 0};
    for (size_t i = 0; i < clusters.size(); ++i) {
      const Cluster& drawn = clusters[random.below(clusters.size())];
      sum.hits += drawn.hits;
      sum.count += drawn.count;
    }
    ratio = sum.hits / static_cast<double>(sum.count);
  }
  std::sort(ratios.begin(), ratios.end());
  return Interval{quantile(ratios, 0.025), quantile(ratios, 0.975)};
}

}  // namespace rewardhead::evaluation
