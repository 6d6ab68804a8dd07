// SPDX-License-Identifier: Apache-2.0
#include "host/evaluation/score.h"

#include <iostream>
#include <memory>

#include "host/cli/command.h"
#include "host/cli/inputs.h"
#include "host/cli/option.h"
#include "host/cli/rewards_file.h"
#include "host/training/model.h"

namespace rewardhead::cli {
namespace {

struct ScoreOptions {
  std::string model, items, out;
  EmbeddingOptions embeddings;
  MachineOptions machine;
};

int score(const CLI::App& app, const ScoreOptions& options) {
  require(app, {"--model", "--embeddings", "--out"});
  const bool to_stdout = options.out == "-";
  if (!to_stdout) check_rewards_file("--out", options.out);

  const Context context = options.machine.context(app);
  const Head head = training::load_model(options.model);
  const dataset::Embeddings embeddings = options.embeddings.open();
  training::check_input(options.model, head, embeddings);
  dataset::Items items;
  if (!options.items.empty()) items = dataset::read_items(options.items, {}, embeddings.rows());
  const std::vector<std::string>* ids = options.items.empty() ? nullptr : &items.ids;

  const std::vector<float> rewards = evaluation::Scorer(context, embeddings, head.hidden()).score_all(head);
  if (to_stdout) {
    std::cout << rewards_csv(rewards, ids);
  } else {
    write_rewards(options.out, rewards, ids);
    std::cerr << "Wrote " << rewards.size() << " rewards to " << options.out << "\n";
  }
  return kExitSuccess;
}

}  // namespace

Command add_score(CLI::App& program) {
  auto options = std::make_shared<ScoreOptions>();
  CLI::App* app = program.add_subcommand("score", "The reward of every embedding row");
  add_file(*app, "--model", options->model, "model.safetensors of a run");
  options->embeddings.add_to(*app);
  add_file(*app, "--items", options->items, "Adds the ids of this file to a .csv")->group("Data");
  add_file(*app, "--out", options->out, "rewards.npy (fp32, one a row), rewards.csv, or - for CSV on standard output");
  options->machine.add_to(*app);
  app->footer(
      "\nA reward has the same bits whatever --threads and whatever rows are scored together.\n"
      "\nExample:\n"
      "  rewardhead score --model run/model.safetensors --embeddings embeddings.npy --out rewards.npy");
  return {app, [app, options] { return score(*app, *options); }};
}

}  // namespace rewardhead::cli
