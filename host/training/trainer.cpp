// SPDX-License-Identifier: Apache-2.0
#include "host/training/trainer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "host/dataset/error.h"
#include "host/dataset/random.h"
#include "host/evaluation/metrics.h"
#include "host/training/initialize.h"
#include "host/training/schedule.h"

namespace rewardhead::training {
namespace {

int64_t pairs_in_a_batch(const TrainingData& data, const TrainOptions& options) {
  return options.batch_pairs == 0 ? data.pairs.size() : std::min(options.batch_pairs, data.pairs.size());
}

PlanOptions plan_options(const TrainingData& data, const TrainOptions& options) {
  const int64_t pairs = pairs_in_a_batch(data, options);
  return {.rows = std::min(data.rows, 2 * pairs),
          .input_dim = data.columns,
          .hidden_dim = options.hidden,
          .max_pairs = pairs,
          .operations = RH_TRAIN,
          .objective = options.objective};
}

}  // namespace

Trainer::Trainer(const Context& context, const dataset::Embeddings& embeddings, const dataset::Split& split,
                 const TrainOptions& options)
    : options_(options),
      held_out_(split.held_out),
      data_(gather(embeddings, split.train, options.standardize)),
      batch_pairs_(pairs_in_a_batch(data_, options)) {
  if (options.patience > 0 && held_out_.size() == 0) {
    throw InputError("--patience needs held-out pairs to watch; add --holdout or --folds");
  }
  if (options.warmup > options.epochs * batches()) {
    throw InputError("--warmup is " + std::to_string(options.warmup) + " steps, but the run has only " +
                     std::to_string(options.epochs * batches()));
  }
  Head first(data_.columns, options.hidden);
  initialize(first, options.init, options.seed);
  learner_ = make_learner(context, data_, plan_options(data_, options), first, batches());
  identity_ = describe(options);
  identity_["isa"] = learner_->machine();
  identity_["data"] = data_.fingerprint();
  if (options.patience > 0) {  // they decide when to stop
    identity_["held-out-data"] = gather(embeddings, held_out_, false).fingerprint();
  }
  if (held_out_.size() > 0) {
    scorer_.emplace(context, embeddings, options.hidden);
    scorer_->keep(dataset::distinct_rows(held_out_));
    held_out_rewards_.resize(static_cast<size_t>(embeddings.rows()));
  }
}

bool Trainer::finished() const {
  return epoch_ >= options_.epochs || (options_.patience > 0 && epochs_since_best_ >= options_.patience);
}

EpochRecord Trainer::run_epoch() {
  ++epoch_;
  if (batch_pairs_ == data_.pairs.size()) {
    run_step({});
  } else {
    run_batches();
  }
  const Learner::Figures figures = learner_->finish();
  EpochRecord record{.epoch = epoch_,
                     .step = learner_->steps(),
                     .learning_rate = learning_rate_,
                     .gradient_norm = figures.gradient_norm,
                     .loss = figures.loss,
                     .held_out_nll = std::nullopt,
                     .held_out_accuracy = std::nullopt};
  if (!std::isfinite(record.loss)) {  // without the sign, which a NaN has by chance
    throw InputError("the loss is " + std::to_string(std::abs(record.loss)) + " in epoch " + std::to_string(epoch_) +
                     "; a smaller --learning-rate, --warmup or --clip-norm may help");
  }
  if (scorer_) measure_held_out(record);
  return record;
}

void Trainer::run_step(std::span<const int64_t> pair_indices) {
  learning_rate_ = scheduled_rate(options_.schedule, options_.optimizer.learning_rate, learner_->steps() + 1,
                                  options_.epochs * batches(), options_.warmup);
  AdamwOptions optimizer = options_.optimizer;
  optimizer.learning_rate = learning_rate_;
  learner_->step(pair_indices, optimizer);
}

void Trainer::run_batches() {
  std::vector<int64_t> order(static_cast<size_t>(data_.pairs.size()));
  std::iota(order.begin(), order.end(), int64_t{0});
  Random(options_.seed, kShuffleStream + static_cast<uint64_t>(epoch_)).shuffle(order);
  const size_t batch_pairs = static_cast<size_t>(batch_pairs_);
  for (size_t first = 0; first < order.size(); first += batch_pairs) {
    run_step(std::span(order).subspan(first, std::min(batch_pairs, order.size() - first)));
  }
}

void Trainer::measure_held_out(EpochRecord& record) {
  const Head& head = learner_->parameters();
  scorer_->score_kept(fold(head), held_out_rewards_);
  const evaluation::Fit fit = evaluation::measure_fit(held_out_rewards_, held_out_);
  record.held_out_nll = fit.nll;
  record.held_out_accuracy = fit.accuracy;
  if (options_.patience == 0) return;
  if (!best_ || fit.nll < best_nll_) {
    best_ = head;
    best_nll_ = fit.nll;
    epochs_since_best_ = 0;
  } else {
    ++epochs_since_best_;
  }
}

Head Trainer::fold(const Head& head) const { return data_.standardization ? data_.standardization->fold(head) : head; }

Head Trainer::model() const { return fold(best_ ? *best_ : learner_->parameters()); }

Checkpoint Trainer::checkpoint() const {
  return {.parameters = learner_->parameters(),
          .first_moments = learner_->first_moments(),
          .second_moments = learner_->second_moments(),
          .best = best_,
          .best_nll = best_nll_,
          .epochs_since_best = epochs_since_best_,
          .epoch = epoch_,
          .step = learner_->steps(),
          .options = identity_};
}

void Trainer::restore(const Checkpoint& checkpoint) {
  const auto show = [](const std::map<std::string, std::string>& options, const std::string& name) {
    const auto found = options.find(name);
    return found == options.end() ? std::string("not set") : found->second;
  };
  std::map<std::string, std::string> names = checkpoint.options;
  names.insert(identity_.begin(), identity_.end());
  for (const auto& [name, value] : names) {
    const std::string there = show(checkpoint.options, name), here = show(identity_, name);
    if (there == here) continue;
    if (name == "data") throw InputError("the training pairs or their embeddings are not those of the checkpoint");
    if (name == "held-out-data") {
      if (!checkpoint.options.contains(name) || !identity_.contains(name)) continue;  // then --patience differs as well
      throw InputError("the held-out pairs or their embeddings are not those of the checkpoint");
    }
    throw InputError("--" + name + " is " + here + ", but the checkpoint was made with " + there);
  }
  if (checkpoint.epoch > options_.epochs) {
    throw InputError("--epochs is " + std::to_string(options_.epochs) + ", but the checkpoint is at epoch " +
                     std::to_string(checkpoint.epoch));
  }
  const Head* best = checkpoint.best ? &*checkpoint.best : nullptr;
  for (const Head* head : {&checkpoint.parameters, &checkpoint.first_moments, &checkpoint.second_moments, best}) {
    if (head != nullptr && (head->input() != data_.columns || head->hidden() != options_.hidden)) {
      throw InputError("the checkpoint's tensors are not of the shape that its options say");
    }
  }
  learner_->restore(checkpoint.parameters, checkpoint.first_moments, checkpoint.second_moments, checkpoint.step);
  epoch_ = checkpoint.epoch;
  best_ = checkpoint.best;
  best_nll_ = checkpoint.best_nll;
  epochs_since_best_ = checkpoint.epochs_since_best;
}

}  // namespace rewardhead::training
