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

Interval normal_interval(std::span<const Cluster> clusters) {
  constexpr double kQuantile = 1.959963984540054;  // of the standard normal distribution at 0.975
  double hits = 0, count = 0, squares = 0;
  for (const Cluster& cluster : clusters) {
    hits += cluster.hits;
    count += static_cast<double>(cluster.count);
  }
  const double ratio = hits / count;
  for (const Cluster& cluster : clusters)
    squares += std::pow(cluster.hits - ratio * static_cast<double>(cluster.count), 2);
  const double half = kQuantile * std::sqrt(squares) / count;
  return {ratio - half, ratio + half};
}

}  // namespace

std::optional<Interval> bootstrap_interval(std::span<const Cluster> clusters) {
  if (clusters.size() < 2) return std::nullopt;
  if (clusters.size() > kBootstrapClusters) return normal_interval(clusters);
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
