// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "rewardhead/rewardhead.h"

namespace rewardhead::dataset {

// A read-only matrix X [rows, columns], memory-mapped from
//   .npy           C order, '<f4' or '<f2', two dimensions (versions 1 to 3 of the format)
//   .safetensors   F32, F16 or BF16, two dimensions; the tensor named, or the file's only one
// with 1 to 2^31 - 1 rows and at least one column. Opening checks that every value is finite. Throws InputError naming
// the file, the tensor and, for a value, row and column. Copies share the memory.
class Embeddings {
 public:
  static Embeddings open(const std::filesystem::path& file, const std::string& tensor = "");
  // A contiguous matrix in memory, aligned to its element, which must outlive *this and its copies. Checks what open()
  // does, and the alignment; `name` stands in messages where a file would.
  static Embeddings view(const std::string& name, const void* data, int64_t rows, int64_t columns, rh_dtype dtype);

  const std::filesystem::path& file() const { return file_; }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  rh_dtype dtype() const { return dtype_; }
  const void* data() const { return data_; }               // rows * columns elements, contiguous; alive with *this
  const void* row(int64_t index) const;                    // index in [0, rows)
  void copy_row(int64_t index, float* destination) const;  // widened to fp32, columns() elements

 private:
  void check_finite(const std::string& where) const;

  std::filesystem::path file_;
  std::shared_ptr<const void> memory_;  // the mapping, or a copy where the file's data are not aligned
  const void* data_ = nullptr;
  int64_t rows_ = 0;
  int64_t columns_ = 0;
  rh_dtype dtype_ = RH_F32;
};

}  // namespace rewardhead::dataset
