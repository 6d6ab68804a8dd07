// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "host/dataset/embeddings.h"
#include "host/dataset/split.h"
#include "host/evaluation/score.h"
#include "host/training/checkpoint.h"
#include "host/training/learner.h"
#include "host/training/options.h"
#include "host/training/training_data.h"

namespace rewardhead::training {

// A mini-batch epoch e (from 1) takes the pairs in the order that Random(seed, kShuffleStream + e) shuffles them into,
// batch_pairs at a time; the last batch is what is left.
inline constexpr uint64_t kShuffleStream = uint64_t{0x73687566} << 32;  // "shuf" in ASCII

// What an epoch did.
struct EpochRecord {
  int64_t epoch = 0;         // from 1
  int64_t step = 0;          // steps done since the start
  double learning_rate = 0;  // of the epoch's last step
  double gradient_norm = 0;  // of the epoch's last step, before clipping
  double loss = 0;           // mean over the pairs, each as its batch saw it, before that batch's update
  std::optional<double> held_out_nll, held_out_accuracy;  // after the epoch; nullopt where nothing is held out
};

// Trains a head on preference pairs. A batch's loss is divided by its number of pairs; weights are not normalised.
class Trainer {
 public:
  // All arguments must outlive the trainer. On a GPU the training rows (as fp32) and the held-out rows (as they are
  // stored) stay in its memory, and an Error says where they do not fit. Throws InputError for options that do not fit
  // the data: patience with nothing held out, warm-up longer than the run.
  Trainer(const Context& context, const dataset::Embeddings& embeddings, const dataset::Split& split,
          const TrainOptions& options);
  Trainer(const Trainer&) = delete;  // the learner refers to the data here

  int64_t epoch() const { return epoch_; }
  bool finished() const;  // all epochs are done, or patience is at its end
  // Throws InputError where the loss is no longer finite.
  EpochRecord run_epoch();
  // The head for raw embeddings, of best_epoch(): the best so far with patience, else the latest.
  Head model() const;
  int64_t best_epoch() const { return epoch_ - epochs_since_best_; }

  Checkpoint checkpoint() const;
  // Goes on from `checkpoint`, bit for bit as the run that made it. Throws InputError, naming the option, where that
  // run had other options or data, or another instruction set or GPU.
  void restore(const Checkpoint& checkpoint);

 private:
  void run_step(std::span<const int64_t> pair_indices);
  void run_batches();
  void measure_held_out(EpochRecord& record);
  int64_t batches() const { return (data_.pairs.size() + batch_pairs_ - 1) / batch_pairs_; }
  Head fold(const Head& head) const;

  TrainOptions options_;
  const dataset::Preferences& held_out_;
  TrainingData data_;
  std::map<std::string, std::string> identity_;  // options and data, for checkpoints
  int64_t batch_pairs_;
  std::unique_ptr<Learner> learner_;
  int64_t epoch_ = 0;
  double learning_rate_ = 0;  // of the latest step

  std::optional<evaluation::Scorer> scorer_;
  std::vector<float> held_out_rewards_;  // by embedding row
  std::optional<Head> best_;
  double best_nll_ = 0;
  int64_t epochs_since_best_ = 0;
};

}  // namespace rewardhead::training
