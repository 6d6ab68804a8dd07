// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>

#include "host/cli/command.h"
#include "host/cli/inputs.h"
#include "host/cli/table.h"

namespace rewardhead::cli {
namespace {

struct Processor {
  std::string name = "unknown";
  std::vector<std::string> instruction_sets;  // of those that some kernel could use
};

Processor read_processor() {
  constexpr std::array<std::string_view, 9> kSets{"fma",     "f16c",     "bmi2",     "avx2",    "avx512f",
                                                  "avx512bw", "avx512dq", "avx512vl", "asimd"};
  Processor processor;
  std::ifstream stream("/proc/cpuinfo");
  for (std::string line; std::getline(stream, line) && !line.empty();) {  // a blank line ends the first processor
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    if (line.starts_with("model name")) processor.name = line.substr(colon + 2);
    if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
    std::istringstream words(line.substr(colon + 2));
    for (std::string word; words >> word;) {
      if (std::find(kSets.begin(), kSets.end(), word) != kSets.end()) processor.instruction_sets.push_back(word);
    }
  }
  return processor;
}

// Empty, or why there is none: what follows "device is cuda: " in the library's message.
std::string reason_against_cuda() {
  try {
    Context({.device = RH_DEVICE_CUDA, .isa = "", .threads = 1});
    return "";
  } catch (const Error& error) {
    const std::string_view message = error.what();
    const size_t colon = message.find(": ");
    return std::string(colon == message.npos ? message : message.substr(colon + 2));
  }
}

// A GPU's kernels are checked when a plan first wants them, and one that measures wants them all.
void check_kernels(const Context& context) {
  if (context.device() != RH_DEVICE_CUDA) return;
  try {
    Plan(context, {.rows = 2, .input_dim = 1, .hidden_dim = 1, .max_pairs = 1, .planning = RH_PLAN_MEASURE});
  } catch (const Error&) {  // none is left, as the list says
  }
}

int info(const CLI::App& app, const MachineOptions& options, bool as_json) {
  const Context context = options.context(app);
  check_kernels(context);
  const Processor processor = read_processor();
  const std::string no_gpu = reason_against_cuda();
  if (as_json) {
    nlohmann::ordered_json json{{"version", rh_version()},
                                {"processor", processor.name},
                                {"instruction_sets", processor.instruction_sets},
                                {"threads", context.threads()},
                                {"device", rh_device_name(context.device())},
                                {"isa", context.isa()},
                                {"cuda", no_gpu.empty()},
                                {"cuda_reason", no_gpu},
                                {"kernels", nlohmann::ordered_json::array()}};
    for (const rh_kernel_info& kernel : context.kernels()) {
      json["kernels"].push_back({{"operation", kernel.operation},
                                 {"implementation", kernel.implementation},
                                 {"chosen", kernel.chosen != 0},
                                 {"reason", kernel.reason}});
    }
    std::cout << json.dump(2) << "\n";
    return kExitSuccess;
  }
  std::string sets;
  for (const std::string& name : processor.instruction_sets) sets += (sets.empty() ? "" : " ") + name;
  std::cout << "rewardhead        " << rh_version() << "\n"
            << "processor         " << processor.name << "\n"
            << "instruction sets  " << (sets.empty() ? "no extensions" : sets) << "\n"
            << "threads           " << context.threads() << "\n"
            << "GPU               " << (no_gpu.empty() ? "usable" : "none: " + no_gpu) << "\n\n";
  std::string operation;
  for (const rh_kernel_info& kernel : context.kernels()) {
    if (operation != kernel.operation) std::cout << (operation = kernel.operation) << "\n";
    std::string name = kernel.implementation;
    name.resize(std::max<size_t>(name.size(), 12), ' ');
    std::cout << (kernel.chosen ? "  * " : "    ") << name << kernel.reason << "\n";
  }
  return kExitSuccess;
}

}  // namespace

Command add_info(CLI::App& program) {
  auto options = std::make_shared<MachineOptions>();
  auto json = std::make_shared<bool>(false);
  CLI::App* app = program.add_subcommand("info", "This machine, and the kernels that each operation would use here");
  app->add_flag("--json", *json, "Print one JSON object");
  options->add_to(*app);
  app->footer("\nExample:\n  rewardhead info --isa avx2");
  return {app, [app, options, json] { return info(*app, *options, *json); }};
}

}  // namespace rewardhead::cli
