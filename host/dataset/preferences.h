// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace rewardhead::dataset {

// What is known of each embedded response besides its embedding: a CSV, TSV or JSONL file with a line a response.
// The `row` column gives the embedding row; without one, line i (from 0, after the header) is row i.
struct Items {
  std::filesystem::path file;
  std::vector<std::string> ids;     // [rows], unique; the `id` column
  std::vector<std::string> groups;  // [rows], or empty where no group column was asked for
  std::vector<double> lengths;      // [rows], finite and >= 0, or empty where the file has no length column
  std::unordered_map<std::string, int64_t> row_of_id;
};

struct ItemColumns {
  std::string group;              // empty: none; a name that the file lacks is an error
  std::string length = "tokens";  // read where the file has it, unless length_required
  bool length_required = false;   // the user named it
};

// `rows` is the number of embedding rows; every one must have exactly one item.
Items read_items(const std::filesystem::path& file, const ItemColumns& columns, int64_t rows);

// Pairs of embedding rows, in the order of the file. Optional columns are empty where the file has none.
struct Preferences {
  std::filesystem::path file;
  std::vector<int32_t> chosen, rejected;  // [pairs], in [0, rows), different from each other
  std::vector<float> margin;              // finite
  std::vector<float> weight;              // finite, >= 0
  std::vector<float> label;               // in [0, 1]: probability that chosen wins
  int64_t size() const { return static_cast<int64_t>(chosen.size()); }
};

struct PairColumns {
  std::string chosen = "chosen";
  std::string rejected = "rejected";
  // Optional columns: read where the file has the default name; a name that the user gave must be there.
  std::optional<std::string> margin, weight, label;  // nullopt: "margin", "weight", "label" where present
};

// CSV, TSV or JSONL by the file's extension. With `items`, entries are looked up as strings in the id column; without,
// they are 0-based row numbers below `rows`. Throws InputError naming file and line.
Preferences read_preferences(const std::filesystem::path& file, const PairColumns& columns, const Items* items,
                             int64_t rows);

// The pairs at `indices`, in that order.
Preferences select(const Preferences& preferences, const std::vector<int64_t>& indices);

// The distinct rows that the pairs name, ascending.
std::vector<int32_t> distinct_rows(const Preferences& preferences);

}  // namespace rewardhead::dataset
