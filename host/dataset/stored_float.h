// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "rewardhead/rewardhead.h"

namespace rewardhead::dataset {

// The dtype of that name in a safetensors header, or nothing where it is no float that the kernels read.
std::optional<rh_dtype> float_dtype(std::string_view name);

inline int64_t bytes_per_element(rh_dtype dtype) { return dtype == RH_F32 ? 4 : 2; }

// Copies `count` values, at any alignment, as fp32.
void widen(const void* source, rh_dtype dtype, int64_t count, float* destination);

}  // namespace rewardhead::dataset
