// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "rewardhead/rewardhead.hpp"

namespace rewardhead::training {

// All that training needs to go on after an epoch as if it had never stopped. Besides the seed, random numbers depend
// on the epoch alone, so there is no generator to keep.
struct Checkpoint {
  Head parameters, first_moments, second_moments;  // of the standardised features, where they are
  std::optional<Head> best;                        // with patience, from the first epoch on
  double best_nll = 0;                             // held-out, of `best`
  int64_t epochs_since_best = 0;
  int64_t epoch = 0;                           // epochs done
  int64_t step = 0;                            // steps done
  std::map<std::string, std::string> options;  // what the run that resumes must share, by option name
};

// A safetensors file with the heads under "parameters.", "first_moments.", "second_moments.", "best." and the rest in
// its metadata. Written beside the target and renamed.
void save_checkpoint(const std::filesystem::path& file, const Checkpoint& checkpoint);
// Throws InputError naming the file and what is missing or malformed.
Checkpoint load_checkpoint(const std::filesystem::path& file);

}  // namespace rewardhead::training
