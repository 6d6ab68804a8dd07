// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/safetensors.h"

#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "host/dataset/atomic_file.h"
#include "host/dataset/error.h"
#include "host/dataset/mapped_file.h"
#include "host/dataset/safetensors_header.h"
#include "host/dataset/stored_float.h"

namespace rewardhead::dataset {

static_assert(std::endian::native == std::endian::little, "the format is little-endian and is copied as it lies");

TensorFile read_safetensors(const std::filesystem::path& file) {
  const MappedFile map(file);
  const std::string_view bytes = map.bytes();
  const SafetensorsHeader header = parse_safetensors_header(file, bytes);
  TensorFile contents;
  contents.metadata = header.metadata;
  for (const auto& [name, stored] : header.tensors) {
    const std::optional<rh_dtype> dtype = float_dtype(stored.dtype);
    if (!dtype) {
      throw InputError(file.string() + ", tensor '" + name + "': has the dtype " + stored.dtype +
                       "; expected F32, F16 or BF16");
    }
    Tensor tensor{stored.shape, std::vector<float>(static_cast<size_t>(stored.elements))};
    widen(bytes.data() + stored.offset, *dtype, stored.elements, tensor.values.data());
    contents.tensors.emplace(name, std::move(tensor));
  }
  return contents;
}

void write_safetensors(const std::filesystem::path& file, const TensorFile& contents) {
  nlohmann::json header = nlohmann::json::object();
  if (!contents.metadata.empty()) header["__metadata__"] = contents.metadata;
  std::string data;
  for (const auto& [name, tensor] : contents.tensors) {
    int64_t elements = 1;
    for (const int64_t size : tensor.shape) elements *= size;
    if (elements != static_cast<int64_t>(tensor.values.size())) {
      throw std::invalid_argument("tensor '" + name + "' has " + std::to_string(tensor.values.size()) +
                                  " values; its shape says " + std::to_string(elements));
    }
    const size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(tensor.values.data()), tensor.values.size() * sizeof(float));
    header[name] = {{"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size()}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data are aligned in memory
  const uint64_t length = text.size();
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
  write_atomically(file, bytes + text + data);
}

}  // namespace rewardhead::dataset
