// SPDX-License-Identifier: Apache-2.0
#include "host/evaluation/score.h"

#include <gtest/gtest.h>

#include <cmath>

#include "host/dataset/random.h"
#include "tests/host/dataset/files.h"
#include "tests/host/sample.h"

namespace rewardhead::evaluation {
namespace {

using ScorerTest = dataset::FileTest;

Head random_head(int64_t input, int64_t hidden) {
  Head head(input, hidden);
  Random random(3);
  for (float& value : head.values()) value = static_cast<float>(0.3 * random.normal());
  return head;
}

std::vector<float> random_matrix(int64_t size) {
  std::vector<float> x;
  Random random(4);
  for (int64_t i = 0; i < size; ++i) x.push_back(static_cast<float>(random.normal()));
  return x;
}

TEST_F(ScorerTest, ScoresAsTheFormulaSays) {
  const Sample sample = write_sample(folder_);
  const auto embeddings = dataset::Embeddings::open(sample.embeddings_file);
  const Context context;
  for (const int64_t hidden : {0, 5}) {
    const Head head = random_head(Sample::kColumns, hidden);
    const auto rewards = Scorer(context, embeddings, hidden).score_all(head);
    ASSERT_EQ(rewards.size(), static_cast<size_t>(Sample::kRows));
    for (size_t row = 0; row < rewards.size(); ++row) {
      const float* x = sample.x.data() + row * Sample::kColumns;
      double expected = hidden == 0 ? 0 : head.b2()[0], magnitude = std::abs(expected);
      for (size_t h = 0; h < static_cast<size_t>(std::max<int64_t>(hidden, 1)); ++h) {
        double z = hidden == 0 ? 0 : head.b1()[h], size = std::abs(z);
        for (size_t j = 0; j < Sample::kColumns; ++j) {
          z += static_cast<double>(head.w1()[h * Sample::kColumns + j]) * x[j];
          size += std::abs(static_cast<double>(head.w1()[h * Sample::kColumns + j]) * x[j]);
        }
        expected += hidden == 0 ? z : head.w2()[h] * std::max(z, 0.0);
        magnitude += hidden == 0 ? size : std::abs(head.w2()[h]) * size;
      }
      EXPECT_NEAR(rewards[row], expected, 20 * 0x1p-24 * magnitude) << "row " << row << ", hidden " << hidden;
    }
  }
}

// More rows than one block holds, and threads that share them in different ways.
TEST_F(ScorerTest, SomeRowsAllRowsAndAnyThreadsGiveTheSameBits) {
  constexpr int64_t kRows = 4096 + 77, kColumns = 33;
  const auto file = write("x.npy", npy_file(random_matrix(kRows * kColumns), kRows, kColumns));
  const auto embeddings = dataset::Embeddings::open(file);
  for (const int64_t hidden : {0, 20}) {
    const Head head = random_head(kColumns, hidden);
    const Context one({.threads = 1});
    const auto all = Scorer(one, embeddings, hidden).score_all(head);
    for (const int threads : {2, 3, 7}) {
      EXPECT_EQ(Scorer(Context({.threads = threads}), embeddings, hidden).score_all(head), all) << threads;
    }
    for (const int64_t stride : {1, 2, 1000, 4000}) {
      std::vector<int32_t> rows;
      for (int64_t row = kRows - 1; row >= 0; row -= stride) rows.push_back(static_cast<int32_t>(row));
      std::vector<float> some(kRows, -1.0f);
      Scorer(one, embeddings, hidden).score_rows(head, rows, some);
      std::vector<float> expected(kRows, -1.0f);
      for (const int32_t row : rows) expected[static_cast<size_t>(row)] = all[static_cast<size_t>(row)];
      EXPECT_EQ(some, expected) << "hidden " << hidden << ", every " << stride;
    }
  }
}

}  // namespace
}  // namespace rewardhead::evaluation
