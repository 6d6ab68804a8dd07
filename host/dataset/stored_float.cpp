// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/stored_float.h"

#include <cstring>

#include "kernels/storage.h"

namespace rewardhead::dataset {

std::optional<rh_dtype> float_dtype(std::string_view name) {
  if (name == "F32") return RH_F32;
  if (name == "F16") return RH_F16;
  if (name == "BF16") return RH_BF16;
  return std::nullopt;
}

void widen(const void* source, rh_dtype dtype, int64_t count, float* destination) {
  kernels::with_element(static_cast<kernels::Dtype>(dtype), [&](const auto* type) {
    std::remove_cvref_t<decltype(*type)> value;
    const char* bytes = static_cast<const char*>(source);
    for (int64_t i = 0; i < count; ++i) {
      std::memcpy(&value, bytes + i * static_cast<int64_t>(sizeof value), sizeof value);
      destination[i] = kernels::to_float(value);
    }
  });
}

}  // namespace rewardhead::dataset
