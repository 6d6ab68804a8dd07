// SPDX-License-Identifier: Apache-2.0
//
// The storage types of X and their widening to fp32: the one place that knows their bits.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/kernel_table.h"

namespace rewardhead::kernels {

// Of all subset tables in use at a time (cpu/subset_sums.h), as the assembly that reads them declares.
inline constexpr int kTableBytes = 1 << 15;

struct Half {  // IEEE 754 binary16
  uint16_t bits;
};
struct BFloat16 {  // the upper half of a binary32
  uint16_t bits;
};

// Always inlined: a copy compiled for one instruction set must never serve another (see kernels/README.md).
[[gnu::always_inline]] inline float to_float(float value) { return value; }

[[gnu::always_inline]] inline float to_float(BFloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

// Exact for every value: exponent and fraction move into place, the product rebiases the exponent (15 to 127) and
// normalises subnormals, and infinities and NaNs get their all-ones exponent back.
[[gnu::always_inline]] inline float to_float(Half value) {
  const uint32_t magnitude = value.bits & 0x7fffu;
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t rebiased = magnitude >= 0x7c00u
                                ? 0x7f800000u | magnitude << 13
                                : std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude << 13) * 0x1p112f);
  return std::bit_cast<float>(rebiased | sign);
}

// Calls body with a null pointer to const of the element type that `dtype` names.
template <class Body>
[[gnu::always_inline]] inline auto with_element(Dtype dtype, const Body& body) {
  switch (dtype) {
    case Dtype::f16:
      return body(static_cast<const Half*>(nullptr));
    case Dtype::bf16:
      return body(static_cast<const BFloat16*>(nullptr));
    default:
      return body(static_cast<const float*>(nullptr));
  }
}

}  // namespace rewardhead::kernels
