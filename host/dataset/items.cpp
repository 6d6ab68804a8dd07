// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <string_view>

#include "host/dataset/preferences.h"
#include "host/dataset/table.h"

namespace rewardhead::dataset {
namespace {

class ItemReader {
 public:
  ItemReader(const std::filesystem::path& file, const ItemColumns& columns, int64_t rows)
      : columns_(columns), rows_(rows), line_of_row_(static_cast<size_t>(rows)) {
    items_.file = file;
    items_.ids.resize(static_cast<size_t>(rows));
    items_.row_of_id.reserve(static_cast<size_t>(rows));
  }

  Items read() {
    // Group stands last: an empty name asks for no group column.
    const std::array<TableColumn, 4> wanted{TableColumn{"id", true}, TableColumn{"row", false},
                                            TableColumn{columns_.length, columns_.length_required},
                                            TableColumn{columns_.group, true}};
    read_table(items_.file, std::span(wanted).first(columns_.group.empty() ? 3 : 4),
               [this](int64_t line, auto values) { add(line, values); });
    if (count_ < rows_) {
      throw InputError(items_.file.string() + ": found " + std::to_string(count_) + " items, expected " +
                       std::to_string(rows_) + ", one for each row of the embeddings");
    }
    return std::move(items_);
  }

 private:
  void add(int64_t line, std::span<const std::optional<std::string_view>> values) {
    const auto cell = [&](const std::string& column, std::string_view text) {
      return TableCell{items_.file, line, column, text};
    };
    if (count_ == rows_) {
      throw line_error(items_.file, line,
                       "found one item more than the " + std::to_string(rows_) +
                           " rows of the embeddings; expected one for each row");
    }
    const auto row = static_cast<size_t>(values[1] ? cell("row", *values[1]).row_number(rows_) : count_);
    if (line_of_row_[row] != 0) {
      cell("row", *values[1]).fail("each row once; line " + std::to_string(line_of_row_[row]) + " has it too");
    }
    line_of_row_[row] = line;
    ++count_;

    if (values[0]->empty()) cell("id", *values[0]).fail("an id");
    const auto [known, inserted] = items_.row_of_id.try_emplace(std::string(*values[0]), static_cast<int64_t>(row));
    if (!inserted) {
      cell("id", *values[0])
          .fail("each id once; line " + std::to_string(line_of_row_[static_cast<size_t>(known->second)]) +
                " has it too");
    }
    items_.ids[row] = *values[0];

    if (values[2]) {
      const TableCell length = cell(columns_.length, *values[2]);
      const double value = length.number();
      if (value < 0) length.fail("a length, 0 or more");
      items_.lengths.resize(items_.ids.size());
      items_.lengths[row] = value;
    }
    if (values.size() > 3) {
      if (values[3]->empty()) cell(columns_.group, *values[3]).fail("the name of a group");
      items_.groups.resize(items_.ids.size());
      items_.groups[row] = *values[3];
    }
  }

  const ItemColumns& columns_;
  const int64_t rows_;
  Items items_;
  std::vector<int64_t> line_of_row_;  // 0: not seen yet
  int64_t count_ = 0;
};

}  // namespace

Items read_items(const std::filesystem::path& file, const ItemColumns& columns, int64_t rows) {
  return ItemReader(file, columns, rows).read();
}

}  // namespace rewardhead::dataset
