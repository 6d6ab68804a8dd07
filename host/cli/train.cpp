// SPDX-License-Identifier: Apache-2.0
#include <csignal>
#include <iostream>
#include <memory>

#include "host/cli/command.h"
#include "host/cli/config.h"
#include "host/cli/inputs.h"
#include "host/cli/option.h"
#include "host/cli/progress.h"
#include "host/cli/table.h"
#include "host/dataset/atomic_file.h"
#include "host/dataset/split.h"
#include "host/evaluation/metrics_json.h"
#include "host/training/model.h"
#include "host/training/run.h"

namespace rewardhead::cli {
namespace {

struct TrainCommand {
  EmbeddingOptions embeddings;
  PairOptions pairs;
  MachineOptions machine;
  training::TrainOptions train;
  int objective = RH_BRADLEY_TERRY, schedule = 0, init = 0;
  int64_t seed = 0;
  double holdout = 0;
  int64_t folds = 0, fold = 0;
  int64_t checkpoint_every = 10, log_every = 10;
  std::string out, resume, config;
  bool json = false;
};

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free, "it is written in a signal handler");

// SIGINT asks for an end after the epoch; a second one ends the process at once.
class InterruptHandler {
 public:
  InterruptHandler() {
    struct sigaction action = {};
    action.sa_handler = [](int) { interrupted = true; };
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
    sigaction(SIGINT, &action, &previous_);
  }
  ~InterruptHandler() { sigaction(SIGINT, &previous_, nullptr); }
  InterruptHandler(const InterruptHandler&) = delete;
  InterruptHandler& operator=(const InterruptHandler&) = delete;

 private:
  struct sigaction previous_ = {};
};

void add_training_options(CLI::App& app, TrainCommand& c) {
  constexpr int64_t kMany = 1'000'000'000;
  const auto training = [](CLI::Option* option) { option->group(kTrainingGroup); };
  training(add_integer(app, "--hidden", c.train.hidden, 0, 1 << 24, "Hidden units; 0: a linear head"));
  training(add_word(app, "--objective", c.objective, names_of(rh_objective_name), "The loss"));
  training(add_integer(app, "--epochs", c.train.epochs, 1, kMany, "Passes over the pairs"));
  training(add_integer(app, "--batch-pairs", c.train.batch_pairs, 0, kMany, "Pairs in a step; 0: all"));
  training(add_number(app, "--learning-rate", c.train.optimizer.learning_rate, 0, "Of AdamW, at its highest"));
  training(add_number(app, "--weight-decay", c.train.optimizer.weight_decay, 0, "Of AdamW, on every parameter"));
  training(add_number(app, "--clip-norm", c.train.optimizer.clip_norm, 0,
                      "Scale gradients down to this norm over all parameters; 0: never"));
  training(add_word(app, "--schedule", c.schedule, {training::kScheduleNames.begin(), training::kScheduleNames.end()},
                    "Of the learning rate after warm-up: as it is, or down to 0 at the end"));
  training(add_integer(app, "--warmup", c.train.warmup, 0, kMany,
                       "Steps W in which the learning rate rises: step t <= W has t/W of it"));
  training(add_word(app, "--init", c.init, {training::kInitNames.begin(), training::kInitNames.end()},
                    "First weights: as torch.nn.Linear; He's; or 0.01 normal with zero biases"));
  training(add_integer(app, "--seed", c.seed, 0, INT64_MAX, "Of first weights, shuffling and --holdout"));
  training(app.add_flag("--standardize", c.train.standardize,
                        "Give features mean 0 and variance 1 over the training rows; folded into the saved weights"));
  training(
      add_integer(app, "--patience", c.train.patience, 0, kMany,
                  "Stop after this many epochs without a smaller held-out NLL, and keep the best weights; 0: never. "
                  "The held-out figures then chose the epoch, and are optimistic"));
}

void add_run_options(CLI::App& app, TrainCommand& c) {
  add_number(app, "--holdout", c.holdout, 0, "Hold out this share of the groups (of the items, without groups)", 1)
      ->group("Held-out pairs");
  add_integer(app, "--folds", c.folds, 2, 1 << 20, "Hold out every K-th of the sorted groups ...")
      ->group("Held-out pairs")
      ->default_str("");
  add_integer(app, "--fold", c.fold, 0, 1 << 20, "... from this one, 0 to K-1")
      ->group("Held-out pairs")
      ->default_str("");
  add_file(app, "--out", c.out, "Folder for the run; must not hold one", kFolder)->group("Run");
  add_file(app, "--resume", c.resume,
           "Go on with the run in this folder, with its options and on the same instruction set or GPU, as if it had "
           "never stopped; --epochs may grow where the schedule is constant",
           kFolder)
      ->group("Run");
  add_file(app, "--config", c.config, "Take options from this TOML file where the command line has none")->group("Run");
  add_integer(app, "--checkpoint-every", c.checkpoint_every, 0, 1'000'000'000,
              "Epochs between checkpoints; 0: only at the end and on SIGINT")
      ->group("Run");
  add_integer(app, "--log-every", c.log_every, 0, 1'000'000'000, "Epochs between lines of progress; 0: no progress")
      ->group("Run");
  app.add_flag("--json", c.json, "Print the report as one JSON object")->group("Run");
}

void check_options(const CLI::App& app, const TrainCommand& c) {
  c.pairs.check(app);
  if (c.resume.empty()) require(app, {"--out"});
  exclude(app, "--holdout", "--folds");
  require_with(app, "--fold", "--folds");
  require_with(app, "--folds", "--fold");
  require_with(app, "--folds", "--group-column");
  if (given(app, "--folds") && c.fold >= c.folds) {
    usage_error("--fold",
                "is " + std::to_string(c.fold) + ", but must be less than --folds, " + std::to_string(c.folds));
  }
  if (c.train.patience > 0 && c.holdout == 0 && !given(app, "--folds")) {
    usage_error("--patience", "needs --holdout or --folds");
  }
}

dataset::Split split(const CLI::App& app, const TrainCommand& c, const Inputs& inputs) {
  if (given(app, "--folds")) {
    return dataset::split_folds(inputs.pairs, *inputs.items, static_cast<int>(c.folds), static_cast<int>(c.fold));
  }
  return dataset::split_holdout(inputs.pairs, inputs.items_or_null(), c.holdout, c.train.seed);
}

void print_report(const TrainCommand& c, const Inputs& inputs, const evaluation::Evaluation& train,
                  const std::optional<evaluation::Evaluation>& held_out) {
  if (held_out) {
    print_metrics(std::cout, {{"train", &train}, {"held out", &*held_out}});
    if (c.train.patience > 0) {
      std::cout << "\nThe held-out figures chose the epoch (--patience), so they are optimistic.\n";
    }
  } else {
    print_metrics(std::cout, {{"train", &train}});
  }
  const evaluation::Evaluation& shown = held_out ? *held_out : train;
  if (!shown.groups.empty()) {
    std::cout << "\n";
    print_group_bars(std::cout, (held_out ? "Held-out accuracy by " : "Accuracy by ") + c.pairs.group, shown);
  }
  if (const auto rule = evaluation::longer_rule_accuracy(inputs.pairs, inputs.items_or_null())) {
    std::cout << "\nChoosing the longer text (by " << c.pairs.length << ") is right in " << three_decimals(rule)
              << " of all pairs";
    if (held_out) {
      std::cout << " and in " << three_decimals(held_out->all.accuracy_longer_rule)
                << " of the held-out ones; the head in " << three_decimals(held_out->all.accuracy);
    }
    std::cout << ".\n";
  }
}

// Everything in the report is computed from the saved model and the raw embeddings.
void report(const TrainCommand& c, const training::RunFolder& folder, const Context& context,
            const dataset::Embeddings& embeddings, const Inputs& inputs, const dataset::Split& split) {
  const Head head = training::load_model(folder.model());
  evaluation::Scorer scorer(context, embeddings, head.hidden());
  std::vector<float> rewards(static_cast<size_t>(embeddings.rows()));
  const auto evaluate = [&](const dataset::Preferences& pairs) {
    scorer.score_rows(head, dataset::distinct_rows(pairs), rewards);
    return evaluation::evaluate(rewards, pairs, inputs.items_or_null());
  };
  const evaluation::Evaluation train = evaluate(split.train);
  std::optional<evaluation::Evaluation> held_out;
  if (split.held_out.size() > 0) held_out = evaluate(split.held_out);

  nlohmann::ordered_json json{{"train", evaluation::to_json(train)}, {"held_out", nullptr}};
  if (held_out) json["held_out"] = evaluation::to_json(*held_out);
  const std::string text = json.dump(2) + "\n";
  dataset::write_atomically(folder.report(), text);
  if (c.json) {
    std::cout << text;
  } else {
    print_report(c, inputs, train, held_out);
  }
}

// With progress; SIGINT ends it after the epoch. Returns whether the trainer finished.
bool run_to_the_end(training::Trainer& trainer, const training::RunFolder& folder, const TrainCommand& c) {
  Progress progress(c.train.epochs, c.log_every);
  const InterruptHandler handler;
  const bool finished =
      training::run(trainer, folder, c.checkpoint_every, interrupted,
                    [&](const training::EpochRecord& record) { progress.show(record, trainer.finished()); });
  progress.finish();
  return finished;
}

int train(CLI::App& app, TrainCommand& c) {
  exclude(app, "--resume", "--out");
  exclude(app, "--resume", "--config");
  std::optional<training::RunFolder> folder;
  if (given(app, "--resume")) {
    folder.emplace(training::RunFolder::resume(c.resume));
    read_config(app, folder->config());
  } else if (given(app, "--config")) {
    read_config(app, c.config);
  }
  check_options(app, c);
  c.train.objective = static_cast<rh_objective>(c.objective);
  c.train.schedule = static_cast<training::Schedule>(c.schedule);
  c.train.init = static_cast<training::Init>(c.init);
  c.train.seed = static_cast<uint64_t>(c.seed);

  const Context context = c.machine.context(app);
  const dataset::Embeddings embeddings = c.embeddings.open();
  const Inputs inputs = open_inputs(app, c.pairs, embeddings);
  const dataset::Split parts = split(app, c, inputs);
  training::Trainer trainer(context, embeddings, parts, c.train);

  const int64_t dropped = inputs.pairs.size() - parts.train.size() - parts.held_out.size();
  if (dropped > 0) {
    std::cerr << dropped << " of " << inputs.pairs.size()
              << " pairs join a held-out item with a training one and are left out.\n";
  }

  if (!folder) folder.emplace(training::RunFolder::create(c.out));
  if (std::filesystem::exists(folder->checkpoint())) trainer.restore(training::load_checkpoint(folder->checkpoint()));
  bool finished = false;
  try {
    dataset::write_atomically(folder->config(), write_config(app));
    finished = run_to_the_end(trainer, *folder, c);
  } catch (...) {
    folder->discard_unsaved();
    throw;
  }
  if (finished && trainer.epoch() < c.train.epochs) {
    std::cerr << "Stopped early: no smaller held-out NLL for " << c.train.patience
              << (c.train.patience == 1 ? " epoch" : " epochs") << "; the weights are those of epoch "
              << trainer.best_epoch() << ".\n";
  }
  if (!finished) {
    std::cerr << "Stopped after epoch " << trainer.epoch() << ". Go on with: rewardhead train --resume "
              << (c.resume.empty() ? c.out : c.resume) << "\n";
    return kExitInterrupted;
  }
  report(c, *folder, context, embeddings, inputs, parts);
  return kExitSuccess;
}

}  // namespace

Command add_train(CLI::App& program) {
  auto command = std::make_shared<TrainCommand>();
  CLI::App* app = program.add_subcommand("train", "Train a reward head on preference pairs");
  command->embeddings.add_to(*app);
  command->pairs.add_to(*app);
  add_run_options(*app, *command);
  add_training_options(*app, *command);
  command->machine.add_to(*app);
  app->footer(
      "\nA run's folder gets model.safetensors (for raw embeddings), report.json, metrics.jsonl (a line an epoch; "
      "learning\n"
      "rate and gradient norm are those of its last step), config.toml (which repeats the run with --config and "
      "another\n"
      "--out) and checkpoint.safetensors. SIGINT ends the epoch, saves, and exits with 130. After W warm-up steps of "
      "T, step\n"
      "t has p = (t - W - 1) / (T - W) and the learning rate times 1 - p (linear) or (1 + cos(pi p)) / 2 (cosine).\n"
      "With --device cuda the embeddings of the training pairs, as fp32, and of the held-out pairs, as they are "
      "stored,\n"
      "have to fit the GPU's memory together with the weights, their moments and what a step of --batch-pairs needs.\n"
      "\nExample:\n"
      "  rewardhead train --embeddings embeddings.npy --pairs pairs.csv --items items.csv --group-column debate \\\n"
      "      --holdout 0.25 --standardize --out run");
  return {app, [app, command] { return train(*app, *command); }};
}

}  // namespace rewardhead::cli
