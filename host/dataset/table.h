// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "host/dataset/error.h"

namespace rewardhead::dataset {

// A column to read, by its name in the CSV or TSV header or by its key in the JSON objects.
struct TableColumn {
  std::string name;
  bool required;
};

// One row: the line it begins at (from 1) and the text of each column asked for, valid during the call. A column that
// the file lacks has no value, in every row.
using TableRow = std::function<void(int64_t line, std::span<const std::optional<std::string_view>> values)>;

// Streams the rows of a UTF-8 text file through `row`: .csv (comma) and .tsv (tab), with a header, quoting as in RFC
// 4180 and spaces around unquoted fields ignored; .jsonl, an object a line, whose values are strings or numbers (passed
// on as their decimal text) in the columns asked for. Blank lines are skipped. Throws InputError naming file and line
// where the file is malformed, holds no row, or lacks a required column.
void read_table(const std::filesystem::path& file, std::span<const TableColumn> columns, const TableRow& row);

// Where a value stands, for messages and for reading numbers.
struct TableCell {
  const std::filesystem::path& file;
  int64_t line;
  std::string_view column;
  std::string_view text;

  // "FILE, line 3: column 'weight' holds 'x'; expected EXPECTED".
  [[noreturn]] void fail(const std::string& expected) const;
  double number() const;  // finite, decimal, the whole text
  // Decimal, in [0, rows); `advice` ends the message about a text that is no number.
  int64_t row_number(int64_t rows, const char* advice = "") const;
};

InputError line_error(const std::filesystem::path& file, int64_t line, const std::string& message);

}  // namespace rewardhead::dataset
