// SPDX-License-Identifier: Apache-2.0
#include "host/cli/inputs.h"

#include "host/cli/option.h"
#include "host/runtime/cuda.h"

namespace rewardhead::cli {
namespace {

constexpr const char* kDataGroup = "Data";
constexpr const char* kMachineGroup = "Machine";

// Of processors, and in a build with CUDA kernels of GPUs. The library says which go with a device.
std::vector<std::string> instruction_sets() {
  std::vector<std::string> names = names_of(rh_isa_name);
  if constexpr (runtime::kHasCuda) {
    for (const runtime::CudaImplementation& row : runtime::kCudaImplementations) names.emplace_back(row.name);
  }
  return names;
}

}  // namespace

void EmbeddingOptions::add_to(CLI::App& app) {
  add_file(app, "--embeddings", file, "One embedding a row: .npy (fp32, fp16) or .safetensors (F32, F16, BF16)")
      ->group(kDataGroup);
  add_text(app, "--tensor", tensor, "The tensor of a .safetensors file that has several")->group(kDataGroup);
}

void PairOptions::add_to(CLI::App& app) {
  const auto column = [&](const char* name, std::string& target, const char* help) {
    add_text(app, name, target, help)->group(kDataGroup);
  };
  add_file(app, "--pairs", file, "Comparisons: .csv, .tsv or .jsonl with two rows or ids each")->group(kDataGroup);
  add_file(app, "--items", items, "What is known of each row: .csv, .tsv or .jsonl with an id column; pairs name ids")
      ->group(kDataGroup);
  column("--chosen-column", chosen, "Pairs: the preferred response");
  column("--rejected-column", rejected, "Pairs: the other response");
  column("--margin-column", margin, "Pairs: margin by which chosen should win (0 where the file has no such column)");
  column("--weight-column", weight, "Pairs: weight in the loss (otherwise 1)");
  column("--label-column", label, "Pairs: probability that chosen wins (otherwise 1)");
  column("--group-column", group, "Items: groups that are held out whole, and reported one by one");
  column("--length-column", length, "Items: length of the response (where the file has it)");
}

void PairOptions::check(const CLI::App& app) const {
  require(app, {"--embeddings", "--pairs"});
  require_with(app, "--group-column", "--items");
  require_with(app, "--length-column", "--items");
}

Inputs open_inputs(const CLI::App& app, const PairOptions& options, const dataset::Embeddings& embeddings) {
  Inputs inputs;
  if (!options.items.empty()) {
    const dataset::ItemColumns columns{options.group, options.length, given(app, "--length-column")};
    inputs.items = dataset::read_items(options.items, columns, embeddings.rows());
  }
  const auto named = [&](const char* option, const std::string& name) {
    return given(app, option) ? std::optional(name) : std::nullopt;
  };
  inputs.pairs = dataset::read_preferences(options.file,
                                           {.chosen = options.chosen,
                                            .rejected = options.rejected,
                                            .margin = named("--margin-column", options.margin),
                                            .weight = named("--weight-column", options.weight),
                                            .label = named("--label-column", options.label)},
                                           inputs.items_or_null(), embeddings.rows());
  return inputs;
}

void MachineOptions::add_to(CLI::App& app) {
  add_word(app, "--device", device, names_of(rh_device_name),
           "Where to compute; auto is the CPU, cuda the first GPU of CUDA_VISIBLE_DEVICES (no GPU has run this yet)")
      ->group(kMachineGroup);
  add_word(app, "--isa", isa, instruction_sets(), "Instruction set; results differ between them by rounding")
      ->group(kMachineGroup);
  add_integer(app, "--threads", threads, 0, 1024,
              "Threads, which never change a result; 0: what affinity and cgroup allow")
      ->group(kMachineGroup);
}

Context MachineOptions::context(const CLI::App& app) const {
  ContextOptions options{.device = static_cast<rh_device>(device), .threads = static_cast<int>(threads)};
  if (given(app, "--isa")) options.isa = instruction_sets()[static_cast<size_t>(isa)];  // else REWARDHEAD_ISA counts
  return Context(options);
}

}  // namespace rewardhead::cli
