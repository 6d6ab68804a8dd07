// SPDX-License-Identifier: Apache-2.0
#include "host/evaluation/metrics.h"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "host/dataset/error.h"
#include "host/evaluation/metrics_json.h"

namespace rewardhead::evaluation {
namespace {

// Four responses, three pairs, all labels 1. By hand: d = 1, 0, -2, so the hits are 1, 1/2, 0.
struct ByHand {
  std::vector<float> rewards{2, 1, 1, 0};
  dataset::Preferences pairs;
  dataset::Items items;
  ByHand() {
    pairs.chosen = {0, 1, 3};
    pairs.rejected = {1, 2, 0};
    items.lengths = {10, 20, 20, 5};
  }
};

constexpr double kSoftplus1 = 1.3132616875182228;       // log(1 + e)
constexpr double kSoftplusMinus1 = 0.3132616875182228;  // kSoftplus1 - 1
constexpr double kSoftplus2 = 2.1269280110429727;       // log(1 + e^2)
constexpr double kLog2 = 0.6931471805599453;
constexpr double kSigmoid1 = 0.7310585786300049;  // 1 / (1 + 1/e)
constexpr double kSigmoid2 = 0.8807970779778823;  // 1 / (1 + 1/e^2)

TEST(Metrics, ByHandWithLengths) {
  const ByHand data;
  const Metrics m = evaluate(data.rewards, data.pairs, &data.items).all;
  EXPECT_EQ(m.pairs, 3);
  EXPECT_DOUBLE_EQ(*m.accuracy, 0.5);
  EXPECT_DOUBLE_EQ(m.nll, (kSoftplusMinus1 + kLog2 + kSoftplus2) / 3);
  EXPECT_DOUBLE_EQ(m.loss, m.nll);
  EXPECT_DOUBLE_EQ(m.brier, ((1 - kSigmoid1) * (1 - kSigmoid1) + 0.25 + kSigmoid2 * kSigmoid2) / 3);
  // Three bins with one pair each: |1 - 0.731|, |1/2 - 1/2|, |0 - 0.881|.
  EXPECT_DOUBLE_EQ(*m.ece, (1 - kSigmoid1 + 0 + kSigmoid2) / 3);
  EXPECT_DOUBLE_EQ(m.margin_mean, -1.0 / 3);
  EXPECT_DOUBLE_EQ(m.reward_mean, 1);
  EXPECT_DOUBLE_EQ(m.reward_std, std::sqrt(0.5));
  // The longer wins: 10 < 20 is wrong, 20 = 20 counts one half, 5 < 10 is wrong.
  EXPECT_DOUBLE_EQ(*m.accuracy_longer_rule, 0.5 / 3);
  EXPECT_FALSE(m.accuracy_longer_chosen);  // no chosen response is the longer one
  EXPECT_DOUBLE_EQ(*m.accuracy_shorter_chosen, 0.5);
  EXPECT_DOUBLE_EQ(*m.reward_length_correlation, 5 / std::sqrt(2 * 168.75));  // sums of products about 1 and 13.75
}

TEST(Metrics, LabelsTurnPairsAround) {
  ByHand data;
  data.pairs.label = {0, 0.5, 0.25};
  const Metrics m = evaluate(data.rewards, data.pairs, &data.items).all;
  EXPECT_DOUBLE_EQ(*m.accuracy, 0.5);  // wrong, left out, right
  EXPECT_DOUBLE_EQ(m.nll, (kSoftplus1 + kLog2 + 0.25 * kSoftplus2 + 0.75 * (kSoftplus2 - 2)) / 3);
  EXPECT_DOUBLE_EQ(*m.ece, (kSigmoid1 + (1 - kSigmoid2)) / 2);
  EXPECT_DOUBLE_EQ(*m.accuracy_longer_rule, 1);  // row 1 is longer than row 0, row 0 than row 3
  EXPECT_DOUBLE_EQ(*m.accuracy_longer_chosen, 0.5);
  EXPECT_FALSE(m.accuracy_shorter_chosen);
}

TEST(Metrics, LossHasWeightsAndMarginsAndTheOthersDoNot) {
  ByHand data;
  const Metrics plain = evaluate(data.rewards, data.pairs, nullptr).all;
  data.pairs.weight = {2, 0, 3};
  data.pairs.margin = {1, 5, -1};  // d - margin: 0, -5, -1
  const Metrics m = evaluate(data.rewards, data.pairs, nullptr).all;
  EXPECT_DOUBLE_EQ(m.loss, (2 * kLog2 + 3 * kSoftplus1) / 3);
  EXPECT_EQ(m.nll, plain.nll);
  EXPECT_EQ(m.brier, plain.brier);
  EXPECT_EQ(m.accuracy, plain.accuracy);
  EXPECT_EQ(m.ece, plain.ece);
  EXPECT_EQ(m.margin_mean, plain.margin_mean);
}

TEST(Metrics, WhatIsUndefinedIsNull) {
  ByHand data;
  data.pairs.label = {0.5, 0.5, 0.5};
  data.rewards = {1, 1, 1, 1};
  const auto json = to_json(evaluate(data.rewards, data.pairs, &data.items));
  for (const char* key : {"accuracy", "accuracy_longer_rule", "accuracy_interval", "accuracy_interval_over", "ece",
                          "accuracy_longer_chosen", "accuracy_shorter_chosen", "reward_length_correlation"}) {
    EXPECT_TRUE(json.at(key).is_null()) << key;
  }
  EXPECT_EQ(json.at("nll"), kLog2);
  EXPECT_EQ(json.at("reward_std"), 0);
  EXPECT_TRUE(json.at("groups").empty());
}

TEST(Metrics, HugeMarginsStayFinite) {
  ByHand data;
  data.rewards = {3e38f, -3e38f, 0, -3e38f};
  const Metrics m = evaluate(data.rewards, data.pairs, nullptr).all;
  EXPECT_DOUBLE_EQ(m.brier, 2.0 / 3);
  EXPECT_DOUBLE_EQ(*m.ece, 2.0 / 3);
  EXPECT_GT(m.nll, 1e38);
  EXPECT_LT(m.nll, std::numeric_limits<double>::infinity());
}

TEST(Metrics, NonFiniteRewardsAreRefusedAndUnreadOnesAreNot) {
  ByHand data;
  data.rewards.push_back(std::numeric_limits<float>::quiet_NaN());  // row 4 is in no pair
  EXPECT_NO_THROW(evaluate(data.rewards, data.pairs, nullptr));
  data.rewards[2] = std::numeric_limits<float>::infinity();
  EXPECT_THROW(evaluate(data.rewards, data.pairs, nullptr), InputError);
}

void expect_equal(const nlohmann::json& expected, const nlohmann::ordered_json& found) {
  for (const auto& [key, value] : expected.items()) {
    // Both sum in fp64, in different orders; the correlation divides by differences of sums.
    EXPECT_NEAR(found.at(key).get<double>(), value.get<double>(), 1e-12) << key;
  }
}

TEST(Metrics, MatchNumPy) {
  const auto data = nlohmann::json::parse(std::ifstream(TEST_DATA "/metrics.json"));
  dataset::Items items;
  items.groups = data.at("groups").get<std::vector<std::string>>();
  items.lengths = data.at("lengths").get<std::vector<double>>();
  dataset::Preferences pairs;
  pairs.chosen = data.at("pairs").at("chosen").get<std::vector<int32_t>>();
  pairs.rejected = data.at("pairs").at("rejected").get<std::vector<int32_t>>();
  pairs.label = data.at("pairs").at("label").get<std::vector<float>>();
  pairs.weight = data.at("pairs").at("weight").get<std::vector<float>>();
  pairs.margin = data.at("pairs").at("margin").get<std::vector<float>>();
  const auto rewards = data.at("rewards").get<std::vector<float>>();
  const auto found = to_json(evaluate(rewards, pairs, &items));
  expect_equal(data.at("expected"), found);
  ASSERT_EQ(found.at("groups").size(), 5u);
  for (const auto& [name, expected] : data.at("expected_by_group").items()) {
    SCOPED_TRACE(name);
    expect_equal(expected, found.at("groups").at(name));
    EXPECT_TRUE(found.at("groups").at(name).at("accuracy_interval").is_null());  // one group has nothing to resample
  }
  EXPECT_EQ(found.at("accuracy_interval_over"), "groups");
  EXPECT_LT(found.at("accuracy_interval")[0], found.at("accuracy"));
  EXPECT_GT(found.at("accuracy_interval")[1], found.at("accuracy"));

  const Fit fit = measure_fit(rewards, pairs);
  EXPECT_EQ(fit.nll, found.at("nll"));
  EXPECT_EQ(*fit.accuracy, found.at("accuracy"));

  items.groups.clear();
  const auto ungrouped = to_json(evaluate(rewards, pairs, &items));
  EXPECT_EQ(ungrouped.at("accuracy_interval_over"), "pairs");
  EXPECT_EQ(ungrouped.at("accuracy"), found.at("accuracy"));
}

}  // namespace
}  // namespace rewardhead::evaluation
