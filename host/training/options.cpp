// SPDX-License-Identifier: Apache-2.0
#include "host/training/options.h"

#include <charconv>

namespace rewardhead::training {

std::string shortest(double value) {
  std::array<char, 32> text;
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

std::map<std::string, std::string> describe(const TrainOptions& options) {
  std::map<std::string, std::string> text{
      {"hidden", std::to_string(options.hidden)},
      {"objective", rh_objective_name(options.objective)},
      {"batch-pairs", std::to_string(options.batch_pairs)},
      {"learning-rate", shortest(options.optimizer.learning_rate)},
      {"weight-decay", shortest(options.optimizer.weight_decay)},
      {"clip-norm", shortest(options.optimizer.clip_norm)},
      {"schedule", kScheduleNames[static_cast<size_t>(options.schedule)]},
      {"warmup", std::to_string(options.warmup)},
      {"init", kInitNames[static_cast<size_t>(options.init)]},
      {"seed", std::to_string(options.seed)},
      {"standardize", options.standardize ? "true" : "false"},
      {"patience", std::to_string(options.patience)},
  };
  if (options.schedule != Schedule::constant) text["epochs"] = std::to_string(options.epochs);
  return text;
}

}  // namespace rewardhead::training
