// SPDX-License-Identifier: Apache-2.0
//
// The pair loss. Exact where softplus and sigmoid are: sigmoid(0) = 1/2, and from |d| = 256 on softplus is max(d, 0)
// and sigmoid 0 or 1 in fp32. Elsewhere within a bound from the 2 ulp of softplus and sigmoid (logistic_test.cpp).
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "kernels/reference/reference.h"
#include "tests/kernels/testing.h"

namespace rewardhead::kernels::testing {
namespace {

constexpr double kRoundoff = 0x1p-24;

struct PairProblem {
  PairProblem(int64_t row_count, int64_t pair_count) : rewards(row_count), pairs(pair_count) {}

  // Index lists of `pairs` draws; without them pair i is (2i, 2i + 1).
  void draw_pairs(Random& random) {
    chosen.emplace(pairs);
    rejected.emplace(pairs);
    for (int64_t p = 0; p < pairs; ++p) {
      (*chosen)[p] = static_cast<int32_t>(draw(random, 0, rewards.size() - 1));
      const int64_t other = draw(random, 0, rewards.size() - 2);
      (*rejected)[p] = static_cast<int32_t>(other + (other >= (*chosen)[p]));
    }
  }
  template <class Value>
  static void fill(std::optional<Guarded<float>>& list, int64_t count, const Value& value) {
    list.emplace(count);
    for (float& element : *list) element = static_cast<float>(value());
  }
  int64_t winner(int64_t p) const { return chosen ? (*chosen)[p] : 2 * p; }
  int64_t loser(int64_t p) const { return chosen ? (*rejected)[p] : 2 * p + 1; }
  double difference(int64_t p) const {
    return static_cast<double>(rewards[winner(p)]) - rewards[loser(p)] - (margin ? (*margin)[p] : 0.0);
  }

  Guarded<float> rewards;
  int64_t pairs;
  std::optional<Guarded<int32_t>> chosen, rejected;
  std::optional<Guarded<float>> margin, weight, label;
  double normalizer = 1;
};

template <class T>
const T* pointer(const std::optional<Guarded<T>>& list) {
  return list ? list->data() : nullptr;
}

struct LossResults {
  explicit LossResults(int64_t rows) : loss(1), gradient(rows) {}
  Guarded<float> loss, gradient;
};

LossResults run(const KernelTable& table, const PairProblem& p, int threads, bool with_gradient = true) {
  LossResults results(p.rewards.size());
  TestExecutor executor(threads);
  Workspace workspace = make_workspace(table.pair_loss_workspace({p.rewards.size(), 0, 0, p.pairs, false}, threads));
  table.pair_loss({p.rewards.data(), p.rewards.size(), p.pairs, pointer(p.chosen), pointer(p.rejected),
                   pointer(p.margin), pointer(p.weight), pointer(p.label), p.normalizer, results.loss.data(),
                   with_gradient ? results.gradient.data() : nullptr},
                  executor, workspace.data());
  return results;
}

struct LossExpected {
  explicit LossExpected(const PairProblem& p) : gradient(p.rewards.size()) {
    const std::vector<double> rewards(p.rewards.begin(), p.rewards.end());
    std::vector<double> sums(rewards.size());
    loss = reference::pair_loss(rewards.data(), p.rewards.size(), p.pairs, pointer(p.chosen), pointer(p.rejected),
                                pointer(p.margin), pointer(p.weight), pointer(p.label), p.normalizer, gradient.data(),
                                sums.data());
  }
  double loss;
  std::vector<double> gradient;
};

constexpr int64_t kPairs[] = {1,  2,  3,  4,  5,   7,   8,   9,    15,   16,   17,   31,   32,  33,
                              47, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025, 2047, 2049, 5000};

class PairLoss : public KernelTest {};

// Even multiples of 256 are chosen, odd ones rejected; margins are multiples of 512, so d is never 0.
TEST_F(PairLoss, ExactLossAndGradient) {
  Random random(21);
  for (const int64_t pairs : kPairs) {
    for (int options = 0; options < 16; ++options) {
      SCOPED_TRACE(::testing::Message() << pairs << " pairs, options " << options);
      const int64_t rows = 2 * pairs + options % 3;
      PairProblem p(rows, pairs);
      for (int64_t row = 0; row < rows; ++row) {
        p.rewards[row] = static_cast<float>(512 * draw(random, -3, 3) + (row % 2 ? 256 : 0));
      }
      if (options & 1) {
        p.draw_pairs(random);
        for (int64_t i = 0; i < pairs; ++i) {
          (*p.chosen)[i] &= ~1;
          const int32_t odd = (*p.rejected)[i] | 1;
          (*p.rejected)[i] = odd < rows ? odd : 1;
        }
      }
      if (options & 2) PairProblem::fill(p.margin, pairs, [&] { return 512 * draw(random, -1, 1); });
      if (options & 4) PairProblem::fill(p.weight, pairs, [&] { return draw(random, 0, 3); });
      if (options & 8) PairProblem::fill(p.label, pairs, [&] { return static_cast<double>(draw(random, 0, 4)) / 4; });
      const LossExpected expected(p);
      const LossResults results = run(table(), p, 1 + options % 3);
      ASSERT_EQ(results.loss[0], static_cast<float>(expected.loss));
      for (int64_t row = 0; row < rows; ++row) {
        ASSERT_EQ(results.gradient[row], static_cast<float>(expected.gradient[row])) << row;
      }
      const LossResults scored = run(table(), p, 1, false);
      ASSERT_EQ(scored.loss[0], results.loss[0]);
      ASSERT_TRUE(std::isnan(scored.gradient[0])) << "written without being asked for";
    }
  }
}

// All differences are 0: the slope is weight (1/2 - label), exact; what is tested is where it goes.
TEST_F(PairLoss, ExactScatter) {
  Random random(22);
  for (const int64_t pairs : kPairs) {
    PairProblem p(40, pairs);
    for (float& reward : p.rewards) reward = 7;
    p.draw_pairs(random);
    PairProblem::fill(p.weight, pairs, [&] { return draw(random, 0, 3); });
    PairProblem::fill(p.label, pairs, [&] { return static_cast<double>(draw(random, 0, 4)) / 4; });
    p.normalizer = 4;
    const LossExpected expected(p);
    const LossResults results = run(table(), p, 2);
    for (int64_t row = 0; row < 40; ++row) ASSERT_EQ(results.gradient[row], expected.gradient[row]) << row;
  }
}

// The d that a kernel sees has two roundings; softplus' <= 1, and sigmoid changes by at most its own size times that.
// 8 u covers the 2 ulp, the products and 1 / normalizer; 256 + 8 the sum of up to 1,024 losses in four fp32 lanes.
TEST_F(PairLoss, WithinTheErrorBound) {
  Random random(23);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> unit(0, 1);
  for (const double spread : {0.01, 1.0, 10.0, 1000.0, 1e30}) {
    for (const int64_t pairs : {1, 100, 3000}) {
      for (int options = 0; options < 4; ++options) {
        SCOPED_TRACE(::testing::Message() << "spread " << spread << " pairs " << pairs << " options " << options);
        PairProblem p(300, pairs);
        for (float& reward : p.rewards) reward = static_cast<float>(spread * normal(random));
        p.draw_pairs(random);
        if (options & 1) PairProblem::fill(p.margin, pairs, [&] { return normal(random); });
        if (options & 1) PairProblem::fill(p.weight, pairs, [&] { return std::exp(normal(random)); });
        if (options & 2) PairProblem::fill(p.label, pairs, [&] { return unit(random); });
        p.normalizer = static_cast<double>(pairs) * 1.7;
        std::vector<double> magnitude(300), bound(300);
        std::vector<int64_t> degree(300);
        double loss_bound = 0;
        for (int64_t i = 0; i < pairs; ++i) {
          const double d = p.difference(i), label = p.label ? (*p.label)[i] : 1;
          const double error = 2 * kRoundoff * (std::abs(d) + 2 * std::abs(p.margin ? (*p.margin)[i] : 0.0));
          const double weight = (p.weight ? (*p.weight)[i] : 1.0) / p.normalizer;
          const double slope = weight * (label * reference::sigmoid(-d) + (1 - label) * reference::sigmoid(d));
          const double loss = weight * (label * reference::softplus(-d) + (1 - label) * reference::softplus(d));
          for (const int64_t row : {p.winner(i), p.loser(i)}) {
            magnitude[row] += slope;
            bound[row] += slope * (std::min(1.0, error) + 8 * kRoundoff) + 0x1p-140;
            ++degree[row];
          }
          loss_bound += loss * (256 + 8) * kRoundoff + weight * error;
        }
        const LossExpected expected(p);
        const LossResults results = run(table(), p, 3);
        EXPECT_NEAR(results.loss[0], expected.loss, loss_bound);
        for (int64_t row = 0; row < 300; ++row) {
          ASSERT_NEAR(results.gradient[row], expected.gradient[row],
                      bound[row] + static_cast<double>(degree[row]) * kRoundoff * magnitude[row])
              << "row " << row;
        }
      }
    }
  }
}

TEST_F(PairLoss, NanStaysInItsOwnPairs) {
  Random random(24);
  PairProblem p(100, 60);
  for (float& reward : p.rewards) reward = static_cast<float>(draw(random, -3, 3));
  p.draw_pairs(random);
  const LossResults clean = run(table(), p, 2);
  p.rewards[(*p.chosen)[17]] = std::numeric_limits<float>::quiet_NaN();
  std::vector<bool> touched(100);
  for (int64_t i = 0; i < 60; ++i) {
    if (!std::isnan(p.difference(i))) continue;
    touched[p.winner(i)] = touched[p.loser(i)] = true;
  }
  const LossResults results = run(table(), p, 2);
  EXPECT_TRUE(std::isnan(results.loss[0]));
  EXPECT_EQ(std::count(touched.begin(), touched.end(), true) >= 2, true);
  for (int64_t row = 0; row < 100; ++row) {
    if (touched[row]) {
      EXPECT_TRUE(std::isnan(results.gradient[row])) << row;
    } else {
      EXPECT_EQ(results.gradient[row], clean.gradient[row]) << row;
    }
  }
}

// Rewards, margins and labels on a grid of 2^-8, on which differences and 1 - label are exact.
PairProblem grid_problem(Random& random, int64_t rows, int64_t pairs) {
  PairProblem p(rows, pairs);
  for (float& reward : p.rewards) reward = static_cast<float>(draw(random, -2000, 2000)) / 256;
  p.draw_pairs(random);
  PairProblem::fill(p.margin, pairs, [&] { return static_cast<double>(draw(random, -256, 256)) / 256; });
  PairProblem::fill(p.weight, pairs, [&] { return static_cast<double>(draw(random, 0, 512)) / 256; });
  PairProblem::fill(p.label, pairs, [&] { return static_cast<double>(draw(random, 0, 256)) / 256; });
  p.normalizer = static_cast<double>(pairs);
  return p;
}

TEST_F(PairLoss, ShiftOfAllRewardsChangesNoBit) {
  Random random(25);
  PairProblem p = grid_problem(random, 150, 1500);
  const LossResults before = run(table(), p, 2);
  for (float& reward : p.rewards) reward += 1000;
  const LossResults after = run(table(), p, 2);
  EXPECT_TRUE(same_bits(before.loss, after.loss));
  EXPECT_TRUE(same_bits(before.gradient, after.gradient));
}

TEST_F(PairLoss, SwappedPairsWithFlippedLabelsChangeNoBit) {
  Random random(26);
  PairProblem p = grid_problem(random, 150, 1500);
  const LossResults before = run(table(), p, 2);
  for (int64_t i = 0; i < p.pairs; ++i) {
    std::swap((*p.chosen)[i], (*p.rejected)[i]);
    (*p.margin)[i] = -(*p.margin)[i];
    (*p.label)[i] = 1 - (*p.label)[i];
  }
  const LossResults after = run(table(), p, 2);
  EXPECT_EQ(before.loss[0], after.loss[0]);
  for (int64_t row = 0; row < 150; ++row) EXPECT_EQ(before.gradient[row], after.gradient[row]) << row;
}

TEST_F(PairLoss, GradientSumsToZero) {
  Random random(27);
  const PairProblem p = grid_problem(random, 150, 1500);
  const LossResults results = run(table(), p, 2);
  double sum = 0, magnitude = 0;
  for (const float dr : results.gradient) {
    sum += dr;
    magnitude += std::abs(dr);
  }
  EXPECT_GT(magnitude, 0.1);
  EXPECT_NEAR(sum, 0, 40 * kRoundoff * magnitude);  // up to 40 pairs a row, each addition rounded
}

TEST_F(PairLoss, DuplicatedPairsEqualDoubledWeights) {
  Random random(28);
  PairProblem twice = grid_problem(random, 200, 200);
  for (int64_t i = 0; i < 200; ++i) {  // pair i / 2 twice, every row in one pair only
    (*twice.chosen)[i] = static_cast<int32_t>(i / 2);
    (*twice.rejected)[i] = static_cast<int32_t>(i / 2 + 100);
    (*twice.margin)[i] = (*twice.margin)[i & ~1];
    (*twice.weight)[i] = (*twice.weight)[i & ~1];
    (*twice.label)[i] = (*twice.label)[i & ~1];
  }
  PairProblem doubled = grid_problem(random, 200, 100);
  for (int64_t row = 0; row < 200; ++row) doubled.rewards[row] = twice.rewards[row];
  for (int64_t i = 0; i < 100; ++i) {
    (*doubled.chosen)[i] = (*twice.chosen)[2 * i];
    (*doubled.rejected)[i] = (*twice.rejected)[2 * i];
    (*doubled.margin)[i] = (*twice.margin)[2 * i];
    (*doubled.weight)[i] = 2 * (*twice.weight)[2 * i];
    (*doubled.label)[i] = (*twice.label)[2 * i];
  }
  doubled.normalizer = twice.normalizer;
  const LossResults a = run(table(), twice, 2), b = run(table(), doubled, 2);
  EXPECT_TRUE(same_bits(a.gradient, b.gradient));
  EXPECT_NEAR(a.loss[0], b.loss[0], 264 * kRoundoff * b.loss[0]);
}

TEST_F(PairLoss, AdjacentRowsEqualTheirIndexList) {
  Random random(29);
  PairProblem p = grid_problem(random, 2051, 1025);
  for (int64_t i = 0; i < 1025; ++i) {
    (*p.chosen)[i] = static_cast<int32_t>(2 * i);
    (*p.rejected)[i] = static_cast<int32_t>(2 * i + 1);
  }
  const LossResults listed = run(table(), p, 2);
  p.chosen.reset();
  p.rejected.reset();
  const LossResults adjacent = run(table(), p, 2);
  EXPECT_TRUE(same_bits(listed.loss, adjacent.loss));
  EXPECT_TRUE(same_bits(listed.gradient, adjacent.gradient));
  EXPECT_EQ(adjacent.gradient[2050], 0) << "a row in no pair";
}

TEST_F(PairLoss, SameBitsForAnyThreads) {
  Random random(30);
  const PairProblem p = grid_problem(random, 1500, 7001);
  const LossResults one = run(table(), p, 1);
  for (const int threads : {1, 2, 3, 7}) {
    const LossResults again = run(table(), p, threads);
    EXPECT_TRUE(same_bits(one.loss, again.loss)) << threads;
    EXPECT_TRUE(same_bits(one.gradient, again.gradient)) << threads;
  }
}

}  // namespace
}  // namespace rewardhead::kernels::testing
