// SPDX-License-Identifier: Apache-2.0
//
// Four lanes in the vector extension that GCC and Clang share: SSE2, NEON or whatever the target has.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/storage.h"

namespace rewardhead::kernels {
namespace {

struct Portable {
  using Vector = float __attribute__((vector_size(16)));
  using Integers = int32_t __attribute__((vector_size(16)));
  static constexpr const char* name = "portable";
  static constexpr int lanes = 4;
  // Forward tile: 6 hidden x 2 vectors of rows = 12 accumulators, which with 2 of X and 1 of W1 fill 15 of SSE2's 16.
  static constexpr int tile_hidden = 6;
  static constexpr int tile_vectors = 2;

  static Vector set(float value) { return Vector{value, value, value, value}; }
  static Vector load(const float* from) {
    Vector value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  template <class Element>
  static Vector load(const Element* from) {
    return Vector{to_float(from[0]), to_float(from[1]), to_float(from[2]), to_float(from[3])};
  }
  static void store(float* to, Vector value) { std::memcpy(to, &value, sizeof value); }

  struct Two {
    Vector first, second;
  };
  // Two vectors of floats to their even and odd elements, and back.
  static Two split(const float* from) {
    return {Vector{from[0], from[2], from[4], from[6]}, Vector{from[1], from[3], from[5], from[7]}};
  }
  static void merge(float* to, Two value) {
    const auto [even, odd] = value;
    store(to, Vector{even[0], odd[0], even[1], odd[1]});
    store(to + lanes, Vector{even[2], odd[2], even[3], odd[3]});
  }
  // Two vectors of elements in the order that costs least: one after the other, or the even and the odd ones.
  static Two load_two(const float* from) { return {load(from), load(from + lanes)}; }
  static Two load_two(const Half* from) { return {load(from), load(from + lanes)}; }
  static Two load_two(const BFloat16* from) {
    Integers both;
    std::memcpy(&both, from, sizeof both);
    static_assert(std::endian::native == std::endian::little);
    return {std::bit_cast<Vector>(both << 16), std::bit_cast<Vector>(both & -65536)};
  }

  static Vector add(Vector a, Vector b) { return a + b; }
  static Vector sub(Vector a, Vector b) { return a - b; }
  static Vector mul(Vector a, Vector b) { return a * b; }
  static Vector div(Vector a, Vector b) { return a / b; }
  static Vector fma(Vector a, Vector b, Vector c) { return a * b + c; }  // two roundings: SSE2 has no fused one
  static Vector sqrt(Vector a) { return Vector{std::sqrt(a[0]), std::sqrt(a[1]), std::sqrt(a[2]), std::sqrt(a[3])}; }
  static Vector max(Vector a, Vector b) { return a > b ? a : b; }  // b where either is NaN
  static Vector select_greater(Vector a, Vector b, Vector yes, Vector no) { return a > b ? yes : no; }

  // 2^n for integral n in [-126, 127]: adding 2^23 + 127 leaves n + 127 in the low bits.
  static Vector power_of_two(Vector n) {
    const Vector shifted = n + set(0x1p23f + 127);
    return std::bit_cast<Vector>(std::bit_cast<Integers>(shifted) << 23);
  }
  // Bit i: !(a[i] <= 0).
  static uint32_t active(Vector a) {
    const Integers inactive = a <= set(0);
    uint32_t bits = 0;
    for (int i = 0; i < lanes; ++i) bits |= inactive[i] ? 0u : 1u << i;
    return bits;
  }
  static float sum(Vector a) { return (a[0] + a[2]) + (a[1] + a[3]); }
  static void transpose(Vector (&block)[lanes]) {
    for (int i = 0; i < lanes; ++i) {
      for (int j = i + 1; j < lanes; ++j) {
        const float upper = block[i][j];
        block[i][j] = block[j][i];
        block[j][i] = upper;
      }
    }
  }
};

}  // namespace
}  // namespace rewardhead::kernels
