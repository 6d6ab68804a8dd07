// SPDX-License-Identifier: Apache-2.0
#include "host/cli/progress.h"

#include <unistd.h>

#include <cstdio>
#include <string>

namespace rewardhead::cli {
namespace {

std::string describe(const training::EpochRecord& record, int64_t epochs) {
  char text[160];
  std::snprintf(text, sizeof text, "epoch %lld/%lld  loss %.4f  learning rate %.3g",
                static_cast<long long>(record.epoch), static_cast<long long>(epochs), record.loss,
                record.learning_rate);
  std::string line = text;
  if (record.held_out_nll) {
    std::snprintf(text, sizeof text, "  held-out NLL %.4f", *record.held_out_nll);
    line += text;
  }
  if (record.held_out_accuracy) {
    std::snprintf(text, sizeof text, "  accuracy %.4f", *record.held_out_accuracy);
    line += text;
  }
  return line;
}

std::string bar(int64_t done, int64_t all) {
  constexpr int64_t kCells = 24;
  std::string text;
  for (int64_t cell = 0; cell < kCells; ++cell) text += cell * all < done * kCells ? "█" : "░";
  return text;
}

}  // namespace

Progress::Progress(int64_t epochs, int64_t log_every)
    : epochs_(epochs), log_every_(log_every), terminal_(isatty(STDERR_FILENO) == 1) {}

void Progress::show(const training::EpochRecord& record, bool last) {
  if (log_every_ == 0) return;
  if (!terminal_) {
    if (last || record.epoch % log_every_ == 0) std::fprintf(stderr, "%s\n", describe(record, epochs_).c_str());
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  if (!last && drawn_ && now - latest_ < std::chrono::milliseconds(50)) return;
  latest_ = now;
  drawn_ = true;
  std::fprintf(stderr, "\r%s %s\x1b[K", bar(record.epoch, epochs_).c_str(), describe(record, epochs_).c_str());
}

void Progress::finish() {
  if (drawn_) std::fputc('\n', stderr);
}

}  // namespace rewardhead::cli
