// SPDX-License-Identifier: Apache-2.0
//
// What the small kernels share: a thread's float as the vector type of kernels/cpu/softplus.h, so that both devices
// have one softplus, and sums over a warp and a block in an order that depends on nothing but the number of threads.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cpu/softplus.h"
#include "kernels/cuda/ptx.h"

namespace rewardhead::kernels::cuda {

RH_HOST_DEVICE uint32_t float_bits(float value) { return __builtin_bit_cast(uint32_t, value); }
RH_HOST_DEVICE float bits_float(uint32_t bits) { return __builtin_bit_cast(float, bits); }

struct Scalar {
  using Vector = float;
  static RH_HOST_DEVICE float set(float value) { return value; }
  static RH_HOST_DEVICE float add(float a, float b) { return a + b; }
  static RH_HOST_DEVICE float sub(float a, float b) { return a - b; }
  static RH_HOST_DEVICE float mul(float a, float b) { return a * b; }
  static RH_HOST_DEVICE float div(float a, float b) { return a / b; }
  static RH_HOST_DEVICE float fma(float a, float b, float c) { return fmaf(a, b, c); }
  static RH_HOST_DEVICE float max(float a, float b) { return a > b ? a : b; }  // b where either is NaN
  static RH_HOST_DEVICE float select_greater(float a, float b, float yes, float no) { return a > b ? yes : no; }
  static RH_HOST_DEVICE float power_of_two(float n) { return bits_float(float_bits(n + (0x1p23f + 127)) << 23); }
};

// The same sum in every lane.
RH_DEVICE float warp_sum(float value) {
  RH_UNROLL for (int distance = 16; distance > 0; distance /= 2) value += ptx::shfl_xor(value, distance);
  return value;
}
// A double is two words to shuffles and to shared memory, and its bits to global memory.
RH_DEVICE double from_words(uint32_t low, uint32_t high) {
  return __builtin_bit_cast(double, uint64_t{high} << 32 | low);
}
RH_DEVICE uint32_t low_word(double value) { return static_cast<uint32_t>(__builtin_bit_cast(uint64_t, value)); }
RH_DEVICE uint32_t high_word(double value) { return static_cast<uint32_t>(__builtin_bit_cast(uint64_t, value) >> 32); }

RH_DEVICE double load_double(const double* from) { return __builtin_bit_cast(double, ptx::ldg64(from)); }
RH_DEVICE void store_double(double* to, double value) { ptx::stg64(to, __builtin_bit_cast(uint64_t, value)); }

RH_DEVICE double warp_sum(double value) {
  RH_UNROLL for (int distance = 16; distance > 0; distance /= 2) {
    value += from_words(ptx::shfl_xor(low_word(value), distance), ptx::shfl_xor(high_word(value), distance));
  }
  return value;
}

// Over a block of 32 `warps`, in every thread; warps are added in ascending order. Takes 8 bytes of shared memory a
// warp, which no thread may have been using since the last barrier.
template <int warps>
RH_DEVICE double block_sum(double value, uint32_t shared) {
  value = warp_sum(value);
  const uint32_t thread = ptx::thread_index();
  if (thread % 32 == 0) {
    ptx::sts32(shared + thread / 32 * 8, low_word(value));
    ptx::sts32(shared + thread / 32 * 8 + 4, high_word(value));
  }
  ptx::syncthreads();
  double sum = 0;
  for (int warp = 0; warp < warps; ++warp) sum += from_words(ptx::lds32(shared + warp * 8), ptx::lds32(shared + warp * 8 + 4));
  return sum;
}

}  // namespace rewardhead::kernels::cuda
