// SPDX-License-Identifier: Apache-2.0
//
// Four folds by debate on the shipped preferences, with the hyperparameters and figures of a plain PyTorch run (full
// batch, standardised features, nn.Linear's initial distribution, AdamW with weight decay 1): over 40 seeds the MLP's
// pooled held-out accuracy there is 0.7483 on average with a standard deviation of 0.0022, the linear head's 0.703.
#include <gtest/gtest.h>

#include "host/dataset/split.h"
#include "host/evaluation/metrics.h"
#include "host/training/trainer.h"

namespace rewardhead::training {
namespace {

// Mean over seeds 0 to 4 of the share of all pairs that are right when their debate is held out.
double pooled_accuracy(TrainOptions options) {
  const auto embeddings = dataset::Embeddings::open(SAMPLE_DATA "/embeddings.npy");
  const auto items = dataset::read_items(SAMPLE_DATA "/items.csv", {.group = "debate"}, embeddings.rows());
  const auto pairs = dataset::read_preferences(SAMPLE_DATA "/pairs.csv", {}, &items, embeddings.rows());
  const Context context;
  double sum = 0;
  for (options.seed = 0; options.seed < 5; ++options.seed) {
    double hits = 0;
    for (int fold = 0; fold < 4; ++fold) {
      const auto split = dataset::split_folds(pairs, items, 4, fold);
      Trainer trainer(context, embeddings, split, options);
      EpochRecord record;
      while (!trainer.finished()) record = trainer.run_epoch();
      hits += *record.held_out_accuracy * static_cast<double>(split.held_out.size());
    }
    sum += hits / static_cast<double>(pairs.size());
  }
  const double mean = sum / 5;
  testing::Test::RecordProperty("pooled_accuracy", std::to_string(mean));
  return mean;
}

TEST(Acceptance, MlpGeneralisesAsInPyTorch) {
  TrainOptions options{.hidden = 256, .epochs = 60, .standardize = true};
  options.optimizer.learning_rate = 1e-3;
  options.optimizer.weight_decay = 1;
  EXPECT_NEAR(pooled_accuracy(options), 0.748, 0.004);
}

TEST(Acceptance, LinearHeadGeneralisesAsInPyTorch) {
  TrainOptions options{.hidden = 0, .epochs = 300, .standardize = true};
  options.optimizer.learning_rate = 1e-2;
  options.optimizer.weight_decay = 1;
  EXPECT_GE(pooled_accuracy(options), 0.695);
}

}  // namespace
}  // namespace rewardhead::training
