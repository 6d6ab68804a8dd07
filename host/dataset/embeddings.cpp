// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/embeddings.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <string_view>
#include <vector>

#include "host/dataset/error.h"
#include "host/dataset/mapped_file.h"
#include "host/dataset/npy.h"
#include "host/dataset/safetensors_header.h"
#include "host/dataset/stored_float.h"

namespace rewardhead::dataset {
namespace {

static_assert(std::endian::native == std::endian::little, "both formats are little-endian and are read as they lie");

std::string list_names(const SafetensorsHeader& header) {
  std::string names;
  for (const auto& [name, tensor] : header.tensors) names += (names.empty() ? "'" : ", '") + name + "'";
  return names;
}

StoredMatrix find_tensor(const std::filesystem::path& file, std::string_view bytes, std::string& tensor) {
  const SafetensorsHeader header = parse_safetensors_header(file, bytes);
  if (header.tensors.empty()) throw InputError(file.string() + ": holds no tensor");
  if (tensor.empty()) {
    if (header.tensors.size() > 1) {
      throw InputError(file.string() + ": holds several tensors, " + list_names(header) + "; name one with --tensor");
    }
    tensor = header.tensors.begin()->first;
  }
  const auto found = header.tensors.find(tensor);
  if (found == header.tensors.end()) {
    throw InputError(file.string() + ": holds no tensor '" + tensor + "', but " + list_names(header));
  }
  const StoredTensor& stored = found->second;
  const std::string where = file.string() + ", tensor '" + tensor + "': ";
  const std::optional<rh_dtype> dtype = float_dtype(stored.dtype);
  if (!dtype) throw InputError(where + "has the dtype " + stored.dtype + "; expected F32, F16 or BF16");
  if (stored.shape.size() != 2) {
    throw InputError(where + "has " + std::to_string(stored.shape.size()) + " dimensions; expected 2, [rows, columns]");
  }
  if (stored.elements == 0) {
    throw InputError(where + "has " + std::to_string(stored.shape[0]) + " rows and " + std::to_string(stored.shape[1]) +
                     " columns; expected at least one of each");
  }
  return {stored.shape[0], stored.shape[1], *dtype, stored.offset};
}

// The index of the first value whose exponent bits are all set (infinities and NaN), or `count`. The inner loop has no
// exit, so that it vectorises.
template <class Bits>
int64_t first_non_finite(const void* data, int64_t count, Bits exponent) {
  constexpr int64_t kBlock = 4096;
  const Bits* values = static_cast<const Bits*>(data);
  const auto non_finite = [=](Bits bits) { return (bits & exponent) == exponent; };
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, count);
    bool any = false;
    for (int64_t i = begin; i < end; ++i) any |= non_finite(values[i]);
    if (any) return std::find_if(values + begin, values + end, non_finite) - values;
  }
  return count;
}

int64_t first_non_finite(const void* data, rh_dtype dtype, int64_t count) {
  switch (dtype) {
    case RH_F32:
      return first_non_finite<uint32_t>(data, count, 0x7F800000);
    case RH_F16:
      return first_non_finite<uint16_t>(data, count, 0x7C00);
    case RH_BF16:
      return first_non_finite<uint16_t>(data, count, 0x7F80);
  }
  return count;
}

void check_rows(const std::string& where, int64_t rows) {
  if (rows > std::numeric_limits<int32_t>::max()) {
    throw InputError(where + "has " + std::to_string(rows) + " rows; expected at most 2147483647");
  }
}

}  // namespace

Embeddings Embeddings::open(const std::filesystem::path& file, const std::string& tensor) {
  const std::filesystem::path extension = file.extension();
  if (extension != ".npy" && extension != ".safetensors") {
    throw InputError(file.string() + ": has the extension '" + extension.string() +
                     "'; expected embeddings as .npy or .safetensors");
  }
  if (extension == ".npy" && !tensor.empty()) {
    throw InputError(file.string() + ": the array of a .npy file has no name, but the tensor '" + tensor +
                     "' was asked for; leave out --tensor");
  }
  const auto map = std::make_shared<const MappedFile>(file);
  const std::string_view bytes = map->bytes();
  std::string name = tensor;
  const StoredMatrix matrix = extension == ".npy" ? parse_npy(file, bytes) : find_tensor(file, bytes, name);
  const std::string where = file.string() + (name.empty() ? ": " : ", tensor '" + name + "': ");
  check_rows(where, matrix.rows);

  Embeddings embeddings;
  embeddings.file_ = file;
  embeddings.rows_ = matrix.rows;
  embeddings.columns_ = matrix.columns;
  embeddings.dtype_ = matrix.dtype;
  const int64_t count = matrix.rows * matrix.columns;
  const int64_t element = bytes_per_element(matrix.dtype);
  if (matrix.offset % static_cast<size_t>(element) == 0) {
    embeddings.memory_ = map;
    embeddings.data_ = bytes.data() + matrix.offset;
  } else {  // a header of odd length, as hand-made files have
    const char* begin = bytes.data() + matrix.offset;
    const auto copy = std::make_shared<const std::vector<char>>(begin, begin + count * element);
    embeddings.memory_ = copy;
    embeddings.data_ = copy->data();
  }

  embeddings.check_finite(where);
  return embeddings;
}

Embeddings Embeddings::view(const std::string& name, const void* data, int64_t rows, int64_t columns, rh_dtype dtype) {
  if (rows < 1 || columns < 1) {
    throw InputError(name + " has " + std::to_string(rows) + " rows and " + std::to_string(columns) +
                     " columns; expected at least one of each");
  }
  const int64_t alignment = bytes_per_element(dtype);
  if (reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(alignment) != 0) {
    throw InputError(name + " is not aligned to its elements of " + std::to_string(alignment) + " bytes; copy it");
  }
  Embeddings embeddings;
  embeddings.file_ = name;
  embeddings.data_ = data;
  embeddings.rows_ = rows;
  embeddings.columns_ = columns;
  embeddings.dtype_ = dtype;
  check_rows(name + ": ", rows);
  embeddings.check_finite(name + ": ");
  return embeddings;
}

void Embeddings::check_finite(const std::string& where) const {
  const int64_t index = first_non_finite(data_, dtype_, rows_ * columns_);
  if (index == rows_ * columns_) return;
  std::vector<float> values(static_cast<size_t>(columns_));
  copy_row(index / columns_, values.data());
  throw InputError(where + "row " + std::to_string(index / columns_) + ", column " + std::to_string(index % columns_) +
                   " is " + std::to_string(values[static_cast<size_t>(index % columns_)]) +
                   "; expected a finite number");
}

const void* Embeddings::row(int64_t index) const {
  return static_cast<const char*>(data_) + index * columns_ * bytes_per_element(dtype_);
}

void Embeddings::copy_row(int64_t index, float* destination) const { widen(row(index), dtype_, columns_, destination); }

}  // namespace rewardhead::dataset
