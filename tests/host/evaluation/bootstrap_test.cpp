// SPDX-License-Identifier: Apache-2.0
#include "host/evaluation/bootstrap.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace rewardhead::evaluation {
namespace {

TEST(Bootstrap, FewerThanTwoClustersHaveNoInterval) {
  EXPECT_FALSE(bootstrap_interval({}));
  const Cluster one{3, 4};
  EXPECT_FALSE(bootstrap_interval({&one, 1}));
}

TEST(Bootstrap, EqualClustersGiveAPoint) {
  const std::vector<Cluster> clusters(5, {3, 4});
  const auto interval = bootstrap_interval(clusters);
  ASSERT_TRUE(interval);
  EXPECT_EQ(interval->low, 0.75);
  EXPECT_EQ(interval->high, 0.75);
}

TEST(Bootstrap, ClustersAreDrawnWhole) {  // two draws of two: 0, 1/2, 1 with probability 1/4, 1/2, 1/4
  const std::vector<Cluster> clusters{{10, 10}, {0, 10}};
  const auto interval = bootstrap_interval(clusters);
  ASSERT_TRUE(interval);
  EXPECT_EQ(interval->low, 0);
  EXPECT_EQ(interval->high, 1);
}

TEST(Bootstrap, LargeClustersWeighMore) {  // 0, 100/101, 1: the middle one is a ratio of sums, not a mean of ratios
  const std::vector<Cluster> clusters{{100, 100}, {100, 100}, {100, 100}, {0, 1}};
  const auto interval = bootstrap_interval(clusters);
  ASSERT_TRUE(interval);
  EXPECT_GT(interval->low, 0.96);  // three times the small one: 100/103; a mean of ratios would reach 1/4
  EXPECT_EQ(interval->high, 1);
}

TEST(Bootstrap, MatchesTheNormalIntervalOfManyIndependentPairs) {
  std::vector<Cluster> clusters(1000, {1, 1});
  for (size_t i = 0; i < 300; ++i) clusters[i].hits = 0;
  const auto interval = bootstrap_interval(clusters);
  ASSERT_TRUE(interval);
  const double half = 1.959964 * std::sqrt(0.7 * 0.3 / 1000);  // 0.0284
  // The 2.5 % quantile of 2,000 draws has a standard error of about sqrt(0.025 0.975 / 2000) / density = 0.0009.
  EXPECT_NEAR(interval->low, 0.7 - half, 0.003);
  EXPECT_NEAR(interval->high, 0.7 + half, 0.003);
}

TEST(Bootstrap, ManyClustersTakeTheLimitOfTheDraws) {
  // Two kinds of clusters, in even numbers just below and just above the limit; the intervals shrink by 1 / sqrt(n).
  const auto interval_of = [](size_t clusters) {
    std::vector<Cluster> list(clusters, {1, 1});
    for (size_t i = 0; i < clusters; i += 2) list[i] = {3, 9};
    return *bootstrap_interval(list);
  };
  const Interval drawn = interval_of(kBootstrapClusters), limit = interval_of(kBootstrapClusters + 2);
  EXPECT_NEAR(drawn.low, limit.low, 0.05 * (limit.high - limit.low));
  EXPECT_NEAR(drawn.high, limit.high, 0.05 * (limit.high - limit.low));
  EXPECT_NE(drawn.low, limit.low);
  // By hand: the ratio is 4/10, each residual +-0.6, so the standard error is 0.6 sqrt(n) / (5 n).
  const double n = static_cast<double>(kBootstrapClusters + 2);
  EXPECT_NEAR(limit.high - 0.4, 1.959964 * 0.6 / (5 * std::sqrt(n)), 1e-8);
  EXPECT_NEAR(0.4 - limit.low, 1.959964 * 0.6 / (5 * std::sqrt(n)), 1e-8);
}

}  // namespace
}  // namespace rewardhead::evaluation
