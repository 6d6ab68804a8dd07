// SPDX-License-Identifier: Apache-2.0
#include "host/training/trainer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "host/evaluation/metrics.h"
#include "host/training/initialize.h"
#include "host/training/schedule.h"
#include "tests/host/dataset/files.h"
#include "tests/host/sample.h"

namespace rewardhead::training {
namespace {

class TrainerTest : public dataset::FileTest {
 protected:
  TrainerTest() {
    sample_ = write_sample(folder_);
    embeddings_ = dataset::Embeddings::open(sample_.embeddings_file);
    items_ = dataset::read_items(sample_.items_file, {.group = "topic"}, Sample::kRows);
    all_.train = sample_.pairs;
    folds_ = dataset::split_folds(sample_.pairs, items_, 3, 1);
  }
  std::vector<EpochRecord> run(Trainer& trainer) const {
    std::vector<EpochRecord> records;
    while (!trainer.finished()) records.push_back(trainer.run_epoch());
    return records;
  }
  std::vector<float> trained(const TrainOptions& options, const dataset::Split& split, int threads = 1) const {
    const Context context({.threads = threads});
    Trainer trainer(context, embeddings_, split, options);
    run(trainer);
    const Head head = trainer.model();
    return {head.values().begin(), head.values().end()};
  }
  double objective(const Head& head, const dataset::Preferences& pairs) const {
    const auto rewards = evaluation::Scorer(context_, embeddings_, head.hidden()).score_all(head);
    return evaluation::evaluate(rewards, pairs, nullptr).all.loss;
  }

  Context context_;
  Sample sample_;
  dataset::Embeddings embeddings_;
  dataset::Items items_;
  dataset::Split all_, folds_;
};

TEST_F(TrainerTest, FirstLossIsTheObjectiveOfTheFirstWeights) {
  dataset::Split split = all_;
  for (int64_t i = 0; i < Sample::kPairs; ++i) {
    split.train.margin.push_back(0.01f * static_cast<float>(i % 7));
    split.train.weight.push_back(0.1f * static_cast<float>(i % 11));
    split.train.label.push_back(0.25f * static_cast<float>(i % 5));
  }
  TrainOptions options{.hidden = 8};
  options.optimizer.learning_rate = 0;  // so that every batch sees the first weights
  options.optimizer.weight_decay = 0;
  Head head(Sample::kColumns, 8);
  initialize(head, Init::torch, 0);
  const double expected = objective(head, split.train);
  for (const int64_t batch_pairs : {0, 1, 7, 149, 150, 1000}) {  // the mean over all pairs, the short batch's too
    options.batch_pairs = batch_pairs;
    Trainer trainer(context_, embeddings_, split, options);
    const EpochRecord record = trainer.run_epoch();
    EXPECT_NEAR(record.loss, expected, 1e-5 * expected) << batch_pairs;
    EXPECT_EQ(record.step, batch_pairs == 0 ? 1 : std::max<int64_t>(1, (149 + batch_pairs) / batch_pairs));
  }
}

TEST_F(TrainerTest, TrainingLowersTheLossOfWhatItSaves) {
  for (const int64_t hidden : {0, 16}) {
    TrainOptions options{.hidden = hidden, .epochs = 80, .standardize = true};
    options.optimizer.learning_rate = 0.02;
    Trainer trainer(context_, embeddings_, all_, options);
    const auto records = run(trainer);
    EXPECT_LT(records.back().loss, 0.5 * records.front().loss);
    // The saved weights are those after the last step, whose loss no record has; it is no larger here.
    const double saved = objective(trainer.model(), all_.train);
    EXPECT_LE(saved, records.back().loss * 1.001) << "hidden " << hidden;
    EXPECT_GT(saved, records.back().loss * 0.9) << "hidden " << hidden;
  }
}

// The documented order of pairs, with an unshuffled loop over all rows in place of gathered batches.
TEST_F(TrainerTest, MiniBatchesAreTheDocumentedOnes) {
  TrainOptions options{.hidden = 8, .epochs = 3, .batch_pairs = 40, .seed = 9};
  options.optimizer.learning_rate = 0.01;
  Head head(Sample::kColumns, 8);
  initialize(head, Init::torch, 9);
  const Plan plan(context_, {.rows = Sample::kRows, .input_dim = Sample::kColumns, .hidden_dim = 8, .max_pairs = 40});
  const Workspace workspace(plan);
  TrainingState state(head, Sample::kRows);
  for (uint64_t epoch = 1; epoch <= 3; ++epoch) {
    std::vector<int64_t> order(Sample::kPairs);
    std::iota(order.begin(), order.end(), 0);
    Random(9, kShuffleStream + epoch).shuffle(order);
    for (size_t first = 0; first < order.size(); first += 40) {
      const auto last = std::min(first + 40, order.size());
      const auto batch = dataset::select(
          sample_.pairs, {order.begin() + static_cast<int64_t>(first), order.begin() + static_cast<int64_t>(last)});
      plan.train_step(matrix(sample_.x, Sample::kRows), {.chosen = batch.chosen, .rejected = batch.rejected},
                      options.optimizer, head, state, workspace);
    }
  }
  const auto found = trained(options, all_);
  // Without b2, the last: pairs leave it a gradient of rounding errors only, which AdamW scales up to whole steps.
  for (size_t i = 0; i + 1 < found.size(); ++i) EXPECT_NEAR(found[i], head.values()[i], 1e-5) << i;
  EXPECT_EQ(state.step, 12);
}

TEST_F(TrainerTest, EqualSeedsGiveEqualBitsWithAnyThreads) {
  for (const int64_t batch_pairs : {0, 16}) {
    const TrainOptions options{.hidden = 8, .epochs = 5, .batch_pairs = batch_pairs, .seed = 3, .standardize = true};
    const auto expected = trained(options, all_);
    for (const int threads : {1, 2, 3, 7}) EXPECT_EQ(trained(options, all_, threads), expected) << threads;
    TrainOptions other = options;
    other.seed = 4;
    EXPECT_NE(trained(other, all_), expected);
  }
}

TEST_F(TrainerTest, ABatchOfAllPairsIsAFullBatch) {
  EXPECT_EQ(trained({.hidden = 4, .epochs = 4, .batch_pairs = 150}, all_), trained({.hidden = 4, .epochs = 4}, all_));
}

TEST_F(TrainerTest, ScheduleSetsTheRateOfEveryStep) {
  TrainOptions options{.hidden = 4, .epochs = 6, .batch_pairs = 50, .schedule = Schedule::cosine, .warmup = 4};
  options.optimizer.learning_rate = 0.01;
  Trainer trainer(context_, embeddings_, all_, options);
  for (const EpochRecord& record : run(trainer)) {
    EXPECT_EQ(record.learning_rate, scheduled_rate(Schedule::cosine, 0.01, 3 * record.epoch, 18, 4));
  }
  options.schedule = Schedule::constant;
  options.warmup = 0;
  const auto constant = trained(options, all_);
  options.warmup = 18;
  EXPECT_NE(trained(options, all_), constant);
}

TEST_F(TrainerTest, ClippingBoundsTheStep) {
  TrainOptions options{.hidden = 4, .epochs = 1};
  options.optimizer.epsilon = 1e3;  // AdamW's step is then about the rate times the gradient over 1e3
  options.optimizer.weight_decay = 0;
  options.optimizer.learning_rate = 1e3;
  Head before(Sample::kColumns, 4);
  initialize(before, Init::torch, 0);
  const auto distance = [&](const TrainOptions& o) {
    const auto after = trained(o, all_);
    double sum = 0;
    for (size_t i = 0; i < after.size(); ++i) sum += std::pow(after[i] - before.values()[i], 2);
    return std::sqrt(sum);
  };
  Trainer trainer(context_, embeddings_, all_, options);
  const double norm = trainer.run_epoch().gradient_norm;
  EXPECT_NEAR(distance(options), norm, 0.01 * norm);
  options.optimizer.clip_norm = norm / 10;
  EXPECT_NEAR(distance(options), norm / 10, 0.001 * norm);
}

TEST_F(TrainerTest, HeldOutFiguresAreThoseOfTheSavedModel) {
  const TrainOptions options{.hidden = 8, .epochs = 5, .standardize = true};
  Trainer trainer(context_, embeddings_, folds_, options);
  const auto records = run(trainer);
  const Head head = trainer.model();
  const auto rewards = evaluation::Scorer(context_, embeddings_, 8).score_all(head);
  const auto metrics = evaluation::evaluate(rewards, folds_.held_out, nullptr).all;
  EXPECT_EQ(*records.back().held_out_nll, metrics.nll);
  EXPECT_EQ(*records.back().held_out_accuracy, *metrics.accuracy);
}

TEST_F(TrainerTest, PatienceStopsAndKeepsTheBestWeights) {
  TrainOptions options{.hidden = 32, .epochs = 500, .standardize = true, .patience = 4};
  options.optimizer.learning_rate = 0.02;
  Trainer trainer(context_, embeddings_, folds_, options);
  const auto records = run(trainer);
  ASSERT_LT(records.size(), 500u);
  const auto best = std::min_element(records.begin(), records.end(), [](const EpochRecord& a, const EpochRecord& b) {
    return *a.held_out_nll < *b.held_out_nll;
  });
  EXPECT_EQ(records.end() - best, 5);  // the best epoch and four that were not better
  const auto rewards = evaluation::Scorer(context_, embeddings_, 32).score_all(trainer.model());
  EXPECT_EQ(evaluation::evaluate(rewards, folds_.held_out, nullptr).all.nll, *best->held_out_nll);
}

TEST_F(TrainerTest, RefusesOptionsThatDoNotFitTheData) {
  const auto error = [&](const TrainOptions& options) {
    return error_of([&] { Trainer(context_, embeddings_, all_, options); });
  };
  EXPECT_EQ(error({.hidden = 4, .patience = 1}), "--patience needs held-out pairs to watch; add --holdout or --folds");
  EXPECT_EQ(error({.hidden = 4, .epochs = 2, .batch_pairs = 100, .warmup = 5}),
            "--warmup is 5 steps, but the run has only 4");
}

TEST_F(TrainerTest, ALossThatIsNotFiniteEndsTheRun) {
  TrainOptions options{.hidden = 4, .epochs = 50};
  options.optimizer.learning_rate = 1e30;
  Trainer trainer(context_, embeddings_, all_, options);
  EXPECT_NE(error_of([&] { run(trainer); }).find("in epoch 2; a smaller --learning-rate"), std::string::npos);
}

}  // namespace
}  // namespace rewardhead::training
