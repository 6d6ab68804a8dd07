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

}  // namespace
}  // namespace rewardhead::evaluation
