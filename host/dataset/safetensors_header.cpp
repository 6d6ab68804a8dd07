// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/safetensors_header.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "host/dataset/error.h"

namespace rewardhead::dataset {
namespace {

using nlohmann::json;

constexpr uint64_t kLargestHeader = 100'000'000;  // bytes; the format's own limit

struct ElementType {
  std::string_view name;
  int64_t bytes;
};
constexpr ElementType kElementTypes[] = {
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},
    {"BF16", 2}, {"I32", 4}, {"U32", 4}, {"F32", 4},     {"I64", 8},     {"U64", 8}, {"F64", 8},
};

// A tensor's place among the data, as the header states it.
struct Span {
  uint64_t begin;
  uint64_t end;
  std::string name;
};

std::string in_tensor(const std::filesystem::path& file, const std::string& name) {
  return file.string() + ", tensor '" + name + "': ";
}

// nlohmann-json keeps the last of equal keys without a word, so they are counted while it parses.
json parse_json(const std::filesystem::path& file, std::string_view text) {
  std::set<std::string> names;    // of tensors
  std::set<std::string> members;  // of the tensor at hand
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > 3 || (depth > 1 && event == json::parse_event_t::object_start))
      throw InputError(file.string() + ": the safetensors header is nested more deeply than the format is");
    if (event == json::parse_event_t::object_start && depth == 1) members.clear();
    if (event == json::parse_event_t::key) {
      const std::string& key = parsed.get_ref<const std::string&>();
      if (!(depth == 1 ? names : members).insert(key).second) {
        throw InputError(file.string() + ": the safetensors header has the key '" + key + "' twice");
      }
    }
    return true;
  };
  try {
    json header = json::parse(text.begin(), text.end(), check);
    if (header.is_object()) return header;
  } catch (const json::exception&) {
  }
  throw InputError(file.string() + ": the safetensors header is not a JSON object");
}

std::vector<uint64_t> sizes(const json& tensor, const char* key, const std::string& where) {
  const auto found = tensor.find(key);
  const bool valid = found != tensor.end() && found->is_array() &&
                     std::all_of(found->begin(), found->end(), [](const json& v) { return v.is_number_unsigned(); });
  if (!valid) throw InputError(where + "'" + key + "' is missing or no list of whole numbers");
  return found->get<std::vector<uint64_t>>();
}

StoredTensor parse_tensor(const json& tensor, const std::string& where, uint64_t data_bytes, Span& span) {
  if (!tensor.is_object()) throw InputError(where + "its entry in the header is not a JSON object");
  const auto dtype = tensor.find("dtype");
  if (dtype == tensor.end() || !dtype->is_string()) throw InputError(where + "'dtype' is missing or no string");
  StoredTensor stored;
  stored.dtype = dtype->get<std::string>();
  const auto* type = std::find_if(std::begin(kElementTypes), std::end(kElementTypes),
                                  [&](const ElementType& known) { return known.name == stored.dtype; });
  if (type == std::end(kElementTypes)) throw InputError(where + "has the unknown dtype '" + stored.dtype + "'");

  const std::vector<uint64_t> offsets = sizes(tensor, "data_offsets", where);
  if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data_bytes) {
    throw InputError(where + "data_offsets are " + tensor["data_offsets"].dump() +
                     "; expected [begin, end] within the " + std::to_string(data_bytes) +
                     " bytes of data that the file has");
  }
  span.begin = offsets[0];
  span.end = offsets[1];

  const std::string shape = tensor.value("shape", json()).dump();
  stored.elements = 1;
  for (const uint64_t size : sizes(tensor, "shape", where)) {
    int64_t narrow = 0;
    if (__builtin_add_overflow(size, 0, &narrow) || __builtin_mul_overflow(stored.elements, narrow, &stored.elements)) {
      throw InputError(where + "the shape " + shape + " is more than any file can hold");
    }
    stored.shape.push_back(narrow);
  }
  int64_t expected = 0;
  if (__builtin_mul_overflow(stored.elements, type->bytes, &expected) ||
      static_cast<uint64_t>(expected) != span.end - span.begin) {
    throw InputError(where + "found " + std::to_string(span.end - span.begin) + " bytes of data, expected those of " +
                     stored.dtype + " " + shape);
  }
  return stored;
}

std::map<std::string, std::string> parse_metadata(const std::filesystem::path& file, const json& metadata) {
  const bool valid = metadata.is_object() &&
                     std::all_of(metadata.begin(), metadata.end(), [](const json& value) { return value.is_string(); });
  if (!valid)
    throw InputError(file.string() + ": '__metadata__' of the safetensors header does not map names to strings");
  return metadata.get<std::map<std::string, std::string>>();
}

// The format demands tensors without overlaps and without gaps, up to the end of the file.
void check_contiguous(const std::filesystem::path& file, std::vector<Span>& spans, uint64_t data_bytes) {
  std::sort(spans.begin(), spans.end(),
            [](const Span& a, const Span& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  uint64_t expected = 0;
  for (const Span& span : spans) {
    if (span.begin != expected) {
      throw InputError(in_tensor(file, span.name) + "its data begin at byte " + std::to_string(span.begin) +
                       "; expected " + std::to_string(expected) + ", where the tensor before ends");
    }
    expected = span.end;
  }
  if (expected != data_bytes) {
    throw InputError(file.string() + ": found " + std::to_string(data_bytes) + " bytes of data, expected " +
                     std::to_string(expected) + ", where the last tensor ends");
  }
}

}  // namespace

SafetensorsHeader parse_safetensors_header(const std::filesystem::path& file, std::string_view bytes) {
  if (bytes.size() < 8) {
    throw InputError(file.string() + ": has " + std::to_string(bytes.size()) +
                     " bytes; expected a safetensors file, which begins with the 8 bytes of its header's length");
  }
  uint64_t length = 0;
  for (size_t i = 0; i < 8; ++i) length |= uint64_t{static_cast<unsigned char>(bytes[i])} << 8 * i;
  if (length > kLargestHeader) {
    throw InputError(file.string() + ": claims a safetensors header of " + std::to_string(length) +
                     " bytes; expected at most " + std::to_string(kLargestHeader));
  }
  if (length > bytes.size() - 8) {
    throw InputError(file.string() + ": ends inside the safetensors header: found " + std::to_string(bytes.size() - 8) +
                     " bytes of it, expected " + std::to_string(length));
  }
  const uint64_t data_bytes = bytes.size() - 8 - length;

  SafetensorsHeader header;
  std::vector<Span> spans;
  const json entries = parse_json(file, bytes.substr(8, length));
  for (const auto& [name, value] : entries.items()) {
    if (name == "__metadata__") {
      header.metadata = parse_metadata(file, value);
      continue;
    }
    Span span{0, 0, name};
    StoredTensor tensor = parse_tensor(value, in_tensor(file, name), data_bytes, span);
    tensor.offset = static_cast<size_t>(8 + length + span.begin);
    header.tensors.emplace(name, std::move(tensor));
    spans.push_back(span);
  }
  check_contiguous(file, spans, data_bytes);
  return header;
}

}  // namespace rewardhead::dataset
