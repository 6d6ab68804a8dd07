// SPDX-License-Identifier: Apache-2.0
#include "host/training/initialize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace rewardhead::training {
namespace {

struct Moments {
  double mean, variance, largest;
};
Moments moments(std::span<const float> values) {
  double sum = 0, squares = 0, largest = 0;
  for (const double value : values) {
    sum += value;
    squares += value * value;
    largest = std::max(largest, std::abs(value));
  }
  const double n = static_cast<double>(values.size());
  return {sum / n, squares / n, largest};
}

constexpr int64_t kInput = 100, kHidden = 400;

Head initialized(Init init, uint64_t seed = 0) {
  Head head(kInput, kHidden);
  initialize(head, init, seed);
  return head;
}

// The bounds are 5 standard errors or more of 40,000 draws (W1) or 400 (the others).
TEST(Initialize, TorchIsUniformByFanIn) {
  const Head head = initialized(Init::torch);
  const Moments w1 = moments(head.w1());
  EXPECT_NEAR(w1.mean, 0, 0.0015);  // bound 1/10: variance 1/300
  EXPECT_NEAR(w1.variance, 1.0 / 300, 1e-4);
  EXPECT_LE(w1.largest, 0.1f);
  EXPECT_GT(w1.largest, 0.0999);
  const Moments b1 = moments(head.b1());
  EXPECT_NEAR(b1.variance, 1.0 / 300, 8e-4);
  EXPECT_LE(b1.largest, 0.1f);
  const Moments w2 = moments(head.w2());
  EXPECT_NEAR(w2.variance, 1.0 / 1200, 2e-4);  // bound 1/20
  EXPECT_LE(w2.largest, 0.05f);
  EXPECT_NE(head.b2()[0], 0);
  EXPECT_LE(std::abs(head.b2()[0]), 0.05f);
}

TEST(Initialize, HeIsNormalByFanInWithZeroBiases) {
  const Head head = initialized(Init::he);
  EXPECT_NEAR(moments(head.w1()).variance, 0.02, 8e-4);
  EXPECT_GT(moments(head.w1()).largest, 3 * std::sqrt(0.02));  // no uniform draw of that variance is as large
  EXPECT_NEAR(moments(head.w2()).variance, 0.005, 2e-3);
  EXPECT_EQ(moments(head.b1()).largest, 0);
  EXPECT_EQ(head.b2()[0], 0);
}

TEST(Initialize, NormalHasDeviationOneHundredth) {
  const Head head = initialized(Init::normal);
  EXPECT_NEAR(moments(head.w1()).variance, 1e-4, 4e-6);
  EXPECT_NEAR(moments(head.w2()).variance, 1e-4, 4e-5);
  EXPECT_EQ(moments(head.b1()).largest, 0);
  EXPECT_EQ(head.b2()[0], 0);
}

TEST(Initialize, SeedsDecide) {
  for (const Init init : {Init::torch, Init::he, Init::normal}) {
    const Head first = initialized(init, 5), again = initialized(init, 5), other = initialized(init, 6);
    EXPECT_TRUE(std::ranges::equal(first.values(), again.values()));
    EXPECT_FALSE(std::ranges::equal(first.w1(), other.w1()));
  }
}

TEST(Initialize, LinearHeadHasTheFanInOfItsInput) {
  Head head(kInput, 0);
  initialize(head, Init::torch, 0);
  const Moments w = moments(head.w1());
  EXPECT_LE(w.largest, 0.1f);
  EXPECT_GT(w.largest, 0.09);
}

}  // namespace
}  // namespace rewardhead::training
