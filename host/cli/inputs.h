// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "host/dataset/embeddings.h"
#include "host/dataset/preferences.h"
#include "rewardhead/rewardhead.hpp"

// The options that several subcommands share, and what they open.
namespace rewardhead::cli {

struct EmbeddingOptions {
  std::string file, tensor;
  void add_to(CLI::App& app);
  dataset::Embeddings open() const { return dataset::Embeddings::open(file, tensor); }
};

struct PairOptions {
  std::string file, items;
  std::string chosen = "chosen", rejected = "rejected", margin = "margin", weight = "weight", label = "label";
  std::string group, length = "tokens";
  void add_to(CLI::App& app);
  void check(const CLI::App& app) const;  // throws a usage error where options do not go together
};

// The items, where there are any, and the pairs. `app` says which columns were named and must be there.
struct Inputs {
  std::optional<dataset::Items> items;
  dataset::Preferences pairs;
  const dataset::Items* items_or_null() const { return items ? &*items : nullptr; }
};
Inputs open_inputs(const CLI::App& app, const PairOptions& options, const dataset::Embeddings& embeddings);

struct MachineOptions {
  int device = RH_DEVICE_AUTO;
  int isa = 0;
  int64_t threads = 0;
  void add_to(CLI::App& app);
  Context context(const CLI::App& app) const;
};

}  // namespace rewardhead::cli
