// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/table.h"

#include <csv.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "host/dataset/mapped_file.h"

namespace rewardhead::dataset {
namespace {

std::string join(std::span<const std::string> names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "'" : ", '") + name + "'";
  return list;
}

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i++]);
    if (lead < 0x80) continue;
    const int following = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
    if (lead < 0xC2 || lead > 0xF4 || text.size() - i < static_cast<size_t>(following)) return false;
    uint32_t code = lead & (0x3Fu >> following);
    for (int k = 0; k < following; ++k) {
      const auto next = static_cast<unsigned char>(text[i++]);
      if ((next & 0xC0) != 0x80) return false;
      code = code << 6 | (next & 0x3F);
    }
    const bool overlong = (following == 2 && code < 0x800) || (following == 3 && code < 0x10000);
    if (overlong || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return false;
  }
  return true;
}

// Calls function(line, text) for each line, its end (LF, CR or both) included.
template <class Function>
void for_each_line(const std::filesystem::path& file, std::string_view text, const Function& function) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);  // the byte order mark of Windows programs
  for (int64_t number = 1; !text.empty(); ++number) {
    size_t end = 0;
    while (end < text.size() && text[end] != '\n' && text[end] != '\r') ++end;
    end += text.substr(end).starts_with("\r\n") ? 2 : end < text.size() ? 1 : 0;
    const std::string_view line = text.substr(0, end);
    if (line.find('\0') != std::string_view::npos) {
      throw line_error(file, number, "holds a NUL byte; expected UTF-8 text");
    }
    if (!is_utf8(line)) throw line_error(file, number, "holds bytes that are not UTF-8; expected UTF-8 text");
    function(number, line);
    text.remove_prefix(end);
  }
}

// libcsv's parser, which reports fields and row ends through C callbacks; these only store.
class CsvLines {
 public:
  explicit CsvLines(char delimiter) {
    // Appending NUL also makes libcsv allocate before it reports an empty first field.
    csv_init(&parser_, CSV_STRICT | CSV_STRICT_FINI | CSV_APPEND_NULL);
    csv_set_delim(&parser_, static_cast<unsigned char>(delimiter));
  }
  ~CsvLines() { csv_free(&parser_); }
  CsvLines(const CsvLines&) = delete;
  CsvLines& operator=(const CsvLines&) = delete;

  // False where the quoting is wrong. A line ends at most one row.
  bool parse(std::string_view line) {
    return csv_parse(&parser_, line.data(), line.size(), on_field, on_row, this) == line.size();
  }
  bool finish() { return csv_fini(&parser_, on_field, on_row, this) == 0; }

  // The fields of the row that has just ended, or nothing; each row is handed out once.
  std::optional<std::span<const std::string>> take_row() {
    if (!ended_) return std::nullopt;
    const std::span<const std::string> row(fields_.data(), count_);
    ended_ = false;
    count_ = 0;
    return row;
  }

 private:
  static void on_field(void* text, size_t size, void* self) {
    auto& lines = *static_cast<CsvLines*>(self);
    if (lines.count_ == lines.fields_.size()) lines.fields_.emplace_back();
    lines.fields_[lines.count_++].assign(static_cast<const char*>(text), size);
  }
  static void on_row(int, void* self) { static_cast<CsvLines*>(self)->ended_ = true; }

  csv_parser parser_{};
  std::vector<std::string> fields_;  // reused, so that a row costs no allocation
  size_t count_ = 0;
  bool ended_ = false;
};

// Rows of a delimited file after its header.
class CsvRows {
 public:
  CsvRows(const std::filesystem::path& file, std::span<const TableColumn> columns, const TableRow& row)
      : file_(file), columns_(columns), row_(row), values_(columns.size()) {}

  void add(int64_t line, std::span<const std::string> fields) {
    if (names_.empty()) return read_header(line, fields);
    if (fields.size() != names_.size()) {
      throw line_error(file_, line,
                       "found " + std::to_string(fields.size()) + " fields, expected " + std::to_string(names_.size()) +
                           " as in the header");
    }
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (index_[i]) values_[i] = fields[*index_[i]];
    }
    row_(line, values_);
  }

 private:
  void read_header(int64_t line, std::span<const std::string> fields) {
    names_.assign(fields.begin(), fields.end());
    for (size_t i = 0; i < names_.size(); ++i) {
      const auto first = std::find(names_.begin(), names_.begin() + static_cast<ptrdiff_t>(i), names_[i]);
      if (first != names_.begin() + static_cast<ptrdiff_t>(i)) {
        throw line_error(file_, line,
                         "the header names the column '" + names_[i] + "' twice, as column " +
                             std::to_string(first - names_.begin() + 1) + " and " + std::to_string(i + 1));
      }
    }
    for (const TableColumn& column : columns_) {
      const auto found = std::find(names_.begin(), names_.end(), column.name);
      if (found == names_.end() && column.required) {
        throw line_error(file_, line, "has no column '" + column.name + "'; its columns are " + join(names_));
      }
      index_.push_back(found == names_.end() ? std::nullopt : std::optional<size_t>(found - names_.begin()));
    }
  }

  const std::filesystem::path& file_;
  std::span<const TableColumn> columns_;
  const TableRow& row_;
  std::vector<std::string> names_;
  std::vector<std::optional<size_t>> index_;  // of each column asked for among the fields
  std::vector<std::optional<std::string_view>> values_;
};

void read_csv(const std::filesystem::path& file, std::string_view text, char delimiter,
              std::span<const TableColumn> columns, const TableRow& row) {
  CsvLines lines(delimiter);
  CsvRows rows(file, columns, row);
  int64_t begin = 1;  // the line at which the row at hand begins; a quoted field may hold line ends
  bool open = false;  // inside a row
  for_each_line(file, text, [&](int64_t number, std::string_view line) {
    if (!open) begin = number;
    if (!lines.parse(line)) {
      throw line_error(file, number,
                       "a quote stands where none may; expected a field quoted as a whole, with quotes inside doubled");
    }
    const auto fields = lines.take_row();
    if (fields) rows.add(begin, *fields);
    // A blank line does not begin a row, and does not end one whose quoted field goes on over it.
    open = !fields && (open || line.find_first_not_of(" \t\r\n") != std::string_view::npos);
  });
  if (!lines.finish()) throw line_error(file, begin, "a quoted field has no end");
  if (const auto fields = lines.take_row()) rows.add(begin, *fields);
}

// Collects the values of the columns asked for from one object a line.
class JsonRow : public nlohmann::json_sax<nlohmann::json> {
 public:
  JsonRow(const std::filesystem::path& file, std::span<const TableColumn> columns)
      : file_(file), columns_(columns), texts_(columns.size()), found_(columns.size()), values_(columns.size()) {}

  std::span<const std::optional<std::string_view>> parse(int64_t line, std::string_view text) {
    line_ = line;
    depth_ = 0;
    found_.assign(columns_.size(), false);
    nlohmann::json::sax_parse(text.begin(), text.end(), this);
    for (size_t i = 0; i < columns_.size(); ++i) check_presence(i);
    if (first_line_ == 0) first_line_ = line;
    return values_;
  }

  bool null() override { return other("null"); }
  bool boolean(bool value) override { return other(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return scalar(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return scalar(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { return scalar(text); }
  bool string(string_t& value) override { return scalar(value); }
  bool binary(binary_t&) override { return other("binary data"); }
  bool start_object(size_t) override {
    if (depth_ > 0) other("an object");
    ++depth_;
    return true;
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(size_t) override {
    other("an array");
    ++depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(string_t& name) override {
    if (depth_ == 1) {
      key_ = name;
      if (first_line_ == 0) keys_.push_back(name);
    }
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    throw line_error(file_, line_, "is not a JSON object (the mistake is at byte " + std::to_string(position) + ")");
  }

 private:
  bool scalar(const std::string& text) {
    if (depth_ == 0) throw line_error(file_, line_, "is not a JSON object; found a single value");
    for (size_t i = 0; depth_ == 1 && i < columns_.size(); ++i) {
      if (columns_[i].name != key_) continue;
      if (found_[i]) throw line_error(file_, line_, "has the key '" + key_ + "' twice");
      found_[i] = true;
      texts_[i] = text;
      values_[i] = texts_[i];
    }
    return true;
  }

  bool other(const std::string& what) {
    if (depth_ == 0) throw line_error(file_, line_, "is not a JSON object; found " + what);
    for (const TableColumn& column : columns_) {
      if (depth_ == 1 && column.name == key_) {
        throw line_error(file_, line_, "'" + key_ + "' is " + what + "; expected a string or a number");
      }
    }
    return true;
  }

  // A column is in every line or in none, so that a value forgotten somewhere does not pass for a default.
  void check_presence(size_t i) {
    const std::string& name = columns_[i].name;
    if (first_line_ == 0) {
      if (!found_[i] && columns_[i].required) {
        throw line_error(file_, line_, "has no key '" + name + "'; its keys are " + join(keys_));
      }
      present_.push_back(found_[i]);
    } else if (found_[i] != present_[i]) {
      throw line_error(file_, line_,
                       (found_[i] ? "has the key '" : "has no key '") + name + "'; line " +
                           std::to_string(first_line_) + (found_[i] ? " has not" : " has it"));
    }
  }

  const std::filesystem::path& file_;
  std::span<const TableColumn> columns_;
  int64_t line_ = 0;
  int64_t first_line_ = 0;  // 0 before the first row
  int depth_ = 0;
  std::string key_;
  std::vector<std::string> keys_;  // of the first row
  std::vector<std::string> texts_;
  std::vector<bool> found_;    // in this row
  std::vector<bool> present_;  // in the first row
  std::vector<std::optional<std::string_view>> values_;
};

void read_jsonl(const std::filesystem::path& file, std::string_view text, std::span<const TableColumn> columns,
                const TableRow& row) {
  JsonRow object(file, columns);
  for_each_line(file, text, [&](int64_t number, std::string_view line) {
    if (line.find_first_not_of(" \t\r\n") != std::string_view::npos) row(number, object.parse(number, line));
  });
}

// At most 60 bytes of it, cut between characters.
std::string_view excerpt(std::string_view text) {
  size_t size = std::min<size_t>(text.size(), 60);
  while (size > 0 && size < text.size() && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80) --size;
  return text.substr(0, size);
}

}  // namespace

void read_table(const std::filesystem::path& file, std::span<const TableColumn> columns, const TableRow& row) {
  const std::filesystem::path extension = file.extension();
  if (extension != ".csv" && extension != ".tsv" && extension != ".jsonl") {
    throw InputError(file.string() + ": has the extension '" + extension.string() + "'; expected .csv, .tsv or .jsonl");
  }
  const MappedFile map(file);
  int64_t count = 0;
  const TableRow counted = [&](int64_t line, std::span<const std::optional<std::string_view>> values) {
    ++count;
    row(line, values);
  };
  if (extension == ".jsonl") {
    read_jsonl(file, map.bytes(), columns, counted);
  } else {
    read_csv(file, map.bytes(), extension == ".csv" ? ',' : '\t', columns, counted);
  }
  if (count == 0) {
    throw InputError(file.string() + (map.bytes().empty() ? ": is empty" : ": holds no rows") +
                     (extension == ".jsonl" ? "; expected a JSON object a line" : "; expected a header and rows"));
  }
}

InputError line_error(const std::filesystem::path& file, int64_t line, const std::string& message) {
  return InputError(file.string() + ", line " + std::to_string(line) + ": " + message);
}

void TableCell::fail(const std::string& expected) const {
  throw line_error(
      file, line,
      "column '" + std::string(column) + "' holds '" + std::string(excerpt(text)) + "'; expected " + expected);
}

double TableCell::number() const {
  double value = 0;
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc() || end != last || !std::isfinite(value)) fail("a finite decimal number");
  return value;
}

int64_t TableCell::row_number(int64_t rows, const char* advice) const {
  int64_t value = 0;
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, value);
  if (error != std::errc() || end != last || value < 0 || value >= rows) {
    double number = 0;
    const bool is_number = !text.empty() && std::from_chars(text.data(), last, number).ptr == last;
    fail("a row number from 0 to " + std::to_string(rows - 1) + (is_number ? "" : advice));
  }
  return value;
}

}  // namespace rewardhead::dataset
