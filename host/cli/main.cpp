// SPDX-License-Identifier: Apache-2.0
#include <exception>
#include <iostream>
#include <vector>

#include "host/cli/command.h"
#include "rewardhead/rewardhead.h"

namespace rewardhead::cli {
namespace {

int run(int argc, char** argv) {
  CLI::App program("Train, evaluate and run reward heads on preference pairs.", "rewardhead");
  program.require_subcommand(1);
  program.set_version_flag("--version", rh_version());
  program.get_formatter()->column_width(36);
  const std::vector<Command> commands{add_train(program), add_evaluate(program), add_score(program), add_info(program)};
  try {
    program.parse(argc, argv);
    for (const Command& command : commands) {
      if (command.app->parsed()) return command.run();
    }
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return program.exit(error);  // --help, --version
    std::string message = error.what();
    if (program.get_subcommands().empty() && program.remaining_size() > 0) {  // CLI11 says only that none was named
      message = "'" + program.remaining().front() + "' is not one of";
      for (const Command& command : commands) message += " " + command.app->get_name();
    }
    std::cerr << "rewardhead: " << message << "\nTry --help.\n";
    return kExitUsage;
  } catch (const std::exception& error) {
    std::cerr << "rewardhead: " << error.what() << "\n";
    return kExitFailure;
  }
  return kExitFailure;
}

}  // namespace
}  // namespace rewardhead::cli

int main(int argc, char** argv) {
  const int code = rewardhead::cli::run(argc, argv);
  std::cout.flush();
  if (std::cout) return code;
  std::cerr << "rewardhead: standard output cannot be written\n";
  return rewardhead::cli::kExitFailure;
}
