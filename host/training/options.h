// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "rewardhead/rewardhead.hpp"

namespace rewardhead::training {

enum class Schedule { constant, cosine, linear };
inline constexpr std::array kScheduleNames{"constant", "cosine", "linear"};

enum class Init { torch, he, normal };
inline constexpr std::array kInitNames{"torch", "he", "normal"};

// What decides the trained weights, besides the data. Ranges are checked where options are read.
struct TrainOptions {
  int64_t hidden = 256;  // 0: the linear head
  rh_objective objective = RH_BRADLEY_TERRY;
  int64_t epochs = 60;
  int64_t batch_pairs = 0;  // 0, or as many as there are pairs or more: all pairs in every step, in the file's order
  AdamwOptions optimizer = {};
  Schedule schedule = Schedule::constant;
  int64_t warmup = 0;  // steps
  Init init = Init::torch;
  uint64_t seed = 0;
  bool standardize = false;
  int64_t patience = 0;  // epochs without a smaller held-out NLL before training stops; 0: never
};

// The options as text by option name, for comparing those of a checkpoint with those of the run that resumes it. The
// number of epochs is among them only where the learning rate depends on it, so that other runs can be prolonged.
std::map<std::string, std::string> describe(const TrainOptions& options);

// The fewest digits that read back as the same number.
std::string shortest(double value);

}  // namespace rewardhead::training
