// SPDX-License-Identifier: Apache-2.0
#include "host/training/standardization.h"

#include <gtest/gtest.h>

#include <cmath>

#include "host/dataset/random.h"

namespace rewardhead::training {
namespace {

TEST(Standardization, ByHand) {  // the second column is constant and not a binary fraction
  std::vector<float> x{1, 0.1f, 3, 0.1f, 5, 0.1f};
  const auto s = Standardization::of(x, 3);
  EXPECT_EQ(s.mean, (std::vector<double>{3, static_cast<double>(0.1f)}));
  EXPECT_DOUBLE_EQ(s.deviation[0], std::sqrt(8.0 / 3));  // divisor n
  EXPECT_EQ(s.deviation[1], 1);
  s.apply(x);
  const float end = static_cast<float>(2 / std::sqrt(8.0 / 3));
  EXPECT_EQ(x, (std::vector<float>{-end, 0, 0, 0, end, 0}));
}

TEST(Standardization, RoundingNoiseIsNoFeature) {  // deviations 1, 2^-21, 2^-23 and 2^-110
  std::vector<float> x;
  for (const float sign : {1.0f, -1.0f}) x.insert(x.end(), {sign, sign * 0x1p-21f, sign * 0x1p-23f, sign * 0x1p-110f});
  const auto s = Standardization::of(x, 2);
  EXPECT_EQ(s.deviation, (std::vector<double>{1, 0x1p-21, 1, 1}));
  s.apply(x);
  EXPECT_EQ(x, (std::vector<float>{1, 1, 0x1p-23f, 0x1p-110f, -1, -1, -0x1p-23f, -0x1p-110f}));
}

TEST(Standardization, NothingVaries) {
  std::vector<float> x{0.1f, 7, 0.1f, 7, 0.1f, 7};
  const auto s = Standardization::of(x, 3);
  EXPECT_EQ(s.deviation, (std::vector<double>{1, 1}));
  s.apply(x);
  EXPECT_EQ(x, std::vector<float>(6, 0.0f));
}

double reward(const Head& head, const float* x) {
  const size_t columns = static_cast<size_t>(head.input());
  double sum = head.linear() ? 0 : head.b2()[0];
  for (size_t h = 0; h < (head.linear() ? 1 : static_cast<size_t>(head.hidden())); ++h) {
    double z = head.linear() ? 0 : head.b1()[h];
    for (size_t j = 0; j < columns; ++j) z += static_cast<double>(head.w1()[h * columns + j]) * x[j];
    sum += head.linear() ? z : head.w2()[h] * std::max(z, 0.0);
  }
  return sum;
}

// Features far from 0 and of very different scales, as embeddings have them.
TEST(Standardization, FoldedHeadGivesOnRawFeaturesWhatTheHeadGivesOnStandardisedOnes) {
  constexpr int64_t kRows = 50, kColumns = 30;
  Random random(11);
  std::vector<float> raw;
  for (int64_t i = 0; i < kRows * kColumns; ++i) {
    const double column = static_cast<double>(i % kColumns);
    raw.push_back(static_cast<float>(column + std::exp2(column / 3 - 5) * random.normal()));
  }
  const auto s = Standardization::of(raw, kRows);
  std::vector<float> standardised = raw;
  s.apply(standardised);
  for (const int64_t hidden : {0, 8}) {
    Head head(kColumns, hidden);
    for (float& value : head.values()) value = static_cast<float>(0.5 * random.normal());
    const Head folded = s.fold(head);
    const double constant = reward(head, standardised.data()) - reward(folded, raw.data());
    if (hidden > 0) {
      EXPECT_NEAR(constant, 0, 1e-3);
    }
    for (size_t row = 0; row < kRows; ++row) {
      // Folded weights are rounded to fp32 and meet raw features of up to 30 deviations 2^-5: cancellation of about
      // sqrt(30 columns) 30 2^5 2^-24 = 3e-4 a hidden unit.
      EXPECT_NEAR(reward(folded, raw.data() + row * kColumns) + (hidden == 0 ? constant : 0),
                  reward(head, standardised.data() + row * kColumns), 1e-3)
          << "row " << row << ", hidden " << hidden;
    }
  }
}

}  // namespace
}  // namespace rewardhead::training
