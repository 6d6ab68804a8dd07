// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace rewardhead::dataset {

struct StoredTensor {
  std::string dtype;  // as the format spells it: "F32", "BF16", "I64", ...
  std::vector<int64_t> shape;
  int64_t elements = 0;  // the product of the shape
  size_t offset = 0;     // of the first element in the file, of any alignment
};

struct SafetensorsHeader {
  std::map<std::string, StoredTensor> tensors;
  std::map<std::string, std::string> metadata;
};

// Reads the header of a .safetensors file whose whole contents are `bytes`. On return every tensor lies inside the
// file, has the size of its shape, overlaps no other, and no byte is left over. Throws InputError naming file and
// tensor.
SafetensorsHeader parse_safetensors_header(const std::filesystem::path& file, std::string_view bytes);

}  // namespace rewardhead::dataset
