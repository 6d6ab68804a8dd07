// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "rewardhead/rewardhead.h"

namespace rewardhead::dataset {

// Where the matrix of a file lies.
struct StoredMatrix {
  int64_t rows = 0;     // >= 1
  int64_t columns = 0;  // >= 1
  rh_dtype dtype = RH_F32;
  size_t offset = 0;  // of the first element in the file, of any alignment
};

// Reads the header of a NumPy array file of version 1, 2 or 3 whose whole contents are `bytes`. Throws InputError
// naming `file` unless it is a C-ordered, little-endian fp32 or fp16 matrix of at least one element that fills the file
// exactly.
StoredMatrix parse_npy(const std::filesystem::path& file, std::string_view bytes);

}  // namespace rewardhead::dataset
