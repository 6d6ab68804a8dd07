// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/preferences.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "host/dataset/table.h"

namespace rewardhead::dataset {
namespace {

TableColumn optional_column(const std::optional<std::string>& given, const char* name) {
  return {given.value_or(name), given.has_value()};
}

class PairReader {
 public:
  PairReader(const std::filesystem::path& file, const PairColumns& columns, const Items* items, int64_t rows)
      : columns_{TableColumn{columns.chosen, true}, TableColumn{columns.rejected, true},
                 optional_column(columns.margin, "margin"), optional_column(columns.weight, "weight"),
                 optional_column(columns.label, "label")},
        items_(items),
        rows_(rows) {
    pairs_.file = file;
  }

  Preferences read() {
    read_table(pairs_.file, columns_, [this](int64_t line, auto values) { add(line, values); });
    const auto zero = [](float weight) { return weight == 0; };
    if (!pairs_.weight.empty() && std::all_of(pairs_.weight.begin(), pairs_.weight.end(), zero)) {
      throw InputError(pairs_.file.string() + ": the column '" + columns_[kWeight].name +
                       "' holds 0 in every line; expected at least one weight above 0");
    }
    return std::move(pairs_);
  }

 private:
  enum { kChosen, kRejected, kMargin, kWeight, kLabel };

  void add(int64_t line, std::span<const std::optional<std::string_view>> values) {
    const auto cell = [&](size_t column) {
      return TableCell{pairs_.file, line, columns_[column].name, *values[column]};
    };
    const int32_t chosen = row_of(cell(kChosen));
    const int32_t rejected = row_of(cell(kRejected));
    if (chosen == rejected) {
      throw line_error(pairs_.file, line,
                       "pairs '" + std::string(*values[kChosen]) + "' with itself; expected two different responses");
    }
    pairs_.chosen.push_back(chosen);
    pairs_.rejected.push_back(rejected);
    if (values[kMargin]) pairs_.margin.push_back(single(cell(kMargin)));
    if (values[kWeight]) {
      if (cell(kWeight).number() < 0) cell(kWeight).fail("a weight, 0 or more");
      pairs_.weight.push_back(single(cell(kWeight)));
    }
    if (values[kLabel]) {
      const double label = cell(kLabel).number();
      if (label < 0 || label > 1) cell(kLabel).fail("a probability from 0 to 1");
      pairs_.label.push_back(static_cast<float>(label));
    }
  }

  int32_t row_of(const TableCell& cell) {
    if (items_ == nullptr) return static_cast<int32_t>(cell.row_number(rows_, "; ids need --items"));
    key_ = cell.text;
    const auto found = items_->row_of_id.find(key_);
    if (found == items_->row_of_id.end()) cell.fail("an id of " + items_->file.string());
    return static_cast<int32_t>(found->second);
  }

  static float single(const TableCell& cell) {
    const auto value = static_cast<float>(cell.number());
    if (!std::isfinite(value)) cell.fail("a number within the range of fp32");
    return value;
  }

  const std::array<TableColumn, 5> columns_;
  const Items* items_;
  const int64_t rows_;
  Preferences pairs_;
  std::string key_;  // reused, so that a look-up costs no allocation
};

}  // namespace

Preferences read_preferences(const std::filesystem::path& file, const PairColumns& columns, const Items* items,
                             int64_t rows) {
  return PairReader(file, columns, items, rows).read();
}

Preferences select(const Preferences& preferences, const std::vector<int64_t>& indices) {
  const auto take = [&](const auto& from, auto& to) {
    if (from.empty()) return;
    to.reserve(indices.size());
    for (const int64_t index : indices) to.push_back(from[static_cast<size_t>(index)]);
  };
  Preferences selected;
  selected.file = preferences.file;
  take(preferences.chosen, selected.chosen);
  take(preferences.rejected, selected.rejected);
  take(preferences.margin, selected.margin);
  take(preferences.weight, selected.weight);
  take(preferences.label, selected.label);
  return selected;
}

std::vector<int32_t> distinct_rows(const Preferences& preferences) {
  std::vector<int32_t> rows(preferences.chosen);
  rows.insert(rows.end(), preferences.rejected.begin(), preferences.rejected.end());
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

}  // namespace rewardhead::dataset
