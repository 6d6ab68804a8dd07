// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace rewardhead::dataset {

// The safetensors format: 8 bytes little-endian header length, a JSON header, then the tensors' bytes.
// Model and checkpoint files are small and read whole, as fp32; Embeddings maps the large ones.
struct Tensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
struct TensorFile {
  std::map<std::string, Tensor> tensors;        // written in this (sorted) order, so equal contents give equal bytes
  std::map<std::string, std::string> metadata;  // the header's __metadata__
};

// F32, F16 and BF16 are widened to fp32; other types, and anything malformed, throw InputError naming file and tensor.
TensorFile read_safetensors(const std::filesystem::path& file);
// Names and metadata are UTF-8. Writes F32 beside the target, syncs, and renames (atomic_file.h).
void write_safetensors(const std::filesystem::path& file, const TensorFile& contents);

}  // namespace rewardhead::dataset
