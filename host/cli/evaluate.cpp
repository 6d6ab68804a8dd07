// SPDX-License-Identifier: Apache-2.0
#include <iostream>
#include <memory>

#include "host/cli/command.h"
#include "host/cli/inputs.h"
#include "host/cli/option.h"
#include "host/cli/rewards_file.h"
#include "host/cli/table.h"
#include "host/dataset/split.h"
#include "host/evaluation/metrics.h"
#include "host/evaluation/metrics_json.h"
#include "host/evaluation/score.h"
#include "host/training/model.h"

namespace rewardhead::cli {
namespace {

struct EvaluateOptions {
  std::string model, rewards;
  EmbeddingOptions embeddings;
  PairOptions pairs;
  MachineOptions machine;
  bool json = false;
};

int evaluate(const CLI::App& app, const EvaluateOptions& options) {
  require(app, {"--model"});
  options.pairs.check(app);
  if (given(app, "--rewards")) check_rewards_file("--rewards", options.rewards);

  const Context context = options.machine.context(app);
  const Head head = training::load_model(options.model);
  const dataset::Embeddings embeddings = options.embeddings.open();
  training::check_input(options.model, head, embeddings);
  const Inputs inputs = open_inputs(app, options.pairs, embeddings);
  const dataset::Items* items = inputs.items_or_null();
  const dataset::Preferences pairs = dataset::split_holdout(inputs.pairs, items, 0, 0).train;  // checks the groups

  const std::vector<float> rewards = evaluation::Scorer(context, embeddings, head.hidden()).score_all(head);
  const evaluation::Evaluation result = evaluation::evaluate(rewards, pairs, items);
  if (given(app, "--rewards")) write_rewards(options.rewards, rewards, items ? &items->ids : nullptr);
  if (options.json) {
    std::cout << evaluation::to_json(result).dump(2) << "\n";
    return kExitSuccess;
  }
  print_metrics(std::cout, {{"", &result}});
  if (!result.groups.empty()) {
    std::cout << "\n";
    print_group_bars(std::cout, "Accuracy by " + options.pairs.group, result);
  }
  return kExitSuccess;
}

}  // namespace

Command add_evaluate(CLI::App& program) {
  auto options = std::make_shared<EvaluateOptions>();
  CLI::App* app = program.add_subcommand("evaluate", "How well a model agrees with preference pairs");
  add_file(*app, "--model", options->model, "model.safetensors of a run");
  add_file(*app, "--rewards", options->rewards, "Also write what score would: rewards.npy or rewards.csv");
  app->add_flag("--json", options->json, "Print one JSON object");
  options->embeddings.add_to(*app);
  options->pairs.add_to(*app);
  options->machine.add_to(*app);
  app->footer(
      "\nExample:\n"
      "  rewardhead evaluate --model run/model.safetensors --embeddings embeddings.npy --pairs pairs.csv \\\n"
      "      --items items.csv --group-column debate");
  return {app, [app, options] { return evaluate(*app, *options); }};
}

}  // namespace rewardhead::cli
