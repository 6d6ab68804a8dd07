// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace rewardhead::cli {

inline constexpr int kExitSuccess = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitInterrupted = 130;  // 128 + SIGINT, as shells report it

// A subcommand: what CLI11 parses, and what runs if it was named. `run` returns the exit code and throws
// CLI::ParseError for a usage error, anything else for another failure.
struct Command {
  CLI::App* app;
  std::function<int()> run;
};

Command add_train(CLI::App& program);
Command add_evaluate(CLI::App& program);
Command add_score(CLI::App& program);
Command add_info(CLI::App& program);

}  // namespace rewardhead::cli
