// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>

#include "host/training/trainer.h"

namespace rewardhead::cli {

// Training's progress on standard error: a bar where that is a terminal, else a line every `log_every` epochs and one
// for the last; 0 shows nothing.
class Progress {
 public:
  Progress(int64_t epochs, int64_t log_every);
  void show(const training::EpochRecord& record, bool last);
  void finish();  // ends the line of the bar

 private:
  int64_t epochs_;
  int64_t log_every_;
  bool terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point latest_{};
};

}  // namespace rewardhead::cli
