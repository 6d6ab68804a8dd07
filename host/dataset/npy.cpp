// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/npy.h"

#include <charconv>
#include <optional>
#include <string>
#include <vector>

#include "host/dataset/error.h"
#include "host/dataset/stored_float.h"

namespace rewardhead::dataset {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";

// The header is a Python dict literal with the keys descr, fortran_order and shape. This reads that much of Python.
class HeaderParser {
 public:
  HeaderParser(const std::filesystem::path& file, std::string_view text) : file_(file), rest_(text) {}

  void parse() {
    expect('{');
    while (!accept('}')) {
      const std::string key = string_literal();
      expect(':');
      if (key == "descr") {
        once(descr, key) = string_literal();
      } else if (key == "fortran_order") {
        once(fortran_order, key) = boolean();
      } else if (key == "shape") {
        once(shape, key) = tuple();
      } else {
        fail("the unknown key '" + key + "'");
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (!rest_.empty()) fail("text after the dictionary");
    if (!descr || !fortran_order || !shape) fail("no value for 'descr', 'fortran_order' or 'shape'");
  }

  std::optional<std::string> descr;
  std::optional<bool> fortran_order;
  std::optional<std::vector<int64_t>> shape;

 private:
  [[noreturn]] void fail(const std::string& found) const {
    throw InputError(file_.string() + ": the .npy header holds " + found +
                     "; expected {'descr': '<f4' or '<f2', 'fortran_order': False, 'shape': (rows, columns)}");
  }

  template <class T>
  std::optional<T>& once(std::optional<T>& value, const std::string& key) const {
    if (value) fail("the key '" + key + "' twice");
    return value;
  }

  void skip_space() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\n' || rest_[0] == '\t')) rest_.remove_prefix(1);
  }

  bool accept(char wanted) {
    skip_space();
    if (rest_.empty() || rest_[0] != wanted) return false;
    rest_.remove_prefix(1);
    return true;
  }

  void expect(char wanted) {
    if (!accept(wanted)) fail("no '" + std::string(1, wanted) + "' where one belongs");
  }

  std::string string_literal() {
    skip_space();
    const char quote = rest_.empty() ? '\0' : rest_[0];
    if (quote != '\'' && quote != '"') fail("something else than a string (a structured type?)");
    const size_t end = rest_.find(quote, 1);
    if (end == std::string_view::npos) fail("a string without its end");
    const std::string value(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return value;
  }

  bool boolean() {
    skip_space();
    for (const std::string_view word : {"True", "False"}) {
      if (rest_.starts_with(word)) {
        rest_.remove_prefix(word.size());
        return word == "True";
      }
    }
    fail("a 'fortran_order' that is neither True nor False");
  }

  std::vector<int64_t> tuple() {
    std::vector<int64_t> values;
    expect('(');
    while (!accept(')')) {
      skip_space();
      int64_t value = 0;
      const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
      if (error != std::errc() || value < 0) fail("a 'shape' that is not a tuple of sizes");
      rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
      values.push_back(value);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return values;
  }

  const std::filesystem::path& file_;
  std::string_view rest_;
};

rh_dtype parse_descr(const std::filesystem::path& file, const std::string& descr) {
  if (descr == "<f4") return RH_F32;
  if (descr == "<f2") return RH_F16;
  std::string message = file.string() + ": holds the type '" + descr + "'; expected '<f4' or '<f2'";
  if (descr.starts_with('>')) message += " (little-endian)";
  throw InputError(message + ": convert it to float32, for instance with array.astype('<f4')");
}

}  // namespace

StoredMatrix parse_npy(const std::filesystem::path& file, std::string_view bytes) {
  const auto fail = [&](const std::string& message) { throw InputError(file.string() + ": " + message); };
  const auto byte = [&](size_t index) { return static_cast<size_t>(static_cast<unsigned char>(bytes[index])); };

  if (bytes.size() < kMagic.size() + 2 || !bytes.starts_with(kMagic)) {
    fail("does not begin as a .npy file does; it has " + std::to_string(bytes.size()) + " bytes");
  }
  const size_t version = byte(6);
  if (version < 1 || version > 3) fail("is of .npy version " + std::to_string(version) + "; expected 1, 2 or 3");
  const size_t start = version == 1 ? 10 : 12;
  if (bytes.size() < start) fail("ends inside the .npy header, after " + std::to_string(bytes.size()) + " bytes");
  size_t length = byte(8) | byte(9) << 8;
  if (version > 1) length |= byte(10) << 16 | byte(11) << 24;
  if (length > bytes.size() - start) {
    fail("ends inside the .npy header: found " + std::to_string(bytes.size() - start) + " bytes of it, expected " +
         std::to_string(length));
  }

  HeaderParser header(file, bytes.substr(start, length));
  header.parse();
  StoredMatrix matrix;
  matrix.dtype = parse_descr(file, *header.descr);
  if (*header.fortran_order) fail("is in Fortran order; expected C order: save numpy.ascontiguousarray(array)");
  const std::vector<int64_t>& shape = *header.shape;
  if (shape.size() != 2) {
    fail("has " + std::to_string(shape.size()) + " dimensions; expected 2, [rows, columns]");
  }
  matrix.rows = shape[0];
  matrix.columns = shape[1];
  matrix.offset = start + length;
  const std::string described = std::to_string(shape[0]) + " rows and " + std::to_string(shape[1]) + " columns";
  if (shape[0] == 0 || shape[1] == 0) fail("has " + described + "; expected at least one of each");
  int64_t expected = 0;
  if (__builtin_mul_overflow(shape[0], shape[1], &expected) ||
      __builtin_mul_overflow(expected, bytes_per_element(matrix.dtype), &expected)) {
    fail("claims " + described + ", more than any file can hold");
  }
  const size_t found = bytes.size() - matrix.offset;
  if (found != static_cast<size_t>(expected)) {
    fail(std::string(found < static_cast<size_t>(expected) ? "is cut short" : "goes on after its end") + ": found " +
         std::to_string(found) + " bytes of data, expected " + std::to_string(expected) + " for " + described);
  }
  return matrix;
}

}  // namespace rewardhead::dataset
