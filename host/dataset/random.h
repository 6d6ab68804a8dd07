// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace rewardhead {

// One block of Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3; SC 2011).
std::array<uint32_t, 4> philox4x32_10(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// The one generator of the project: counter-based, the same numbers on every machine. A stream is named by
// (seed, stream); it yields the words of the blocks with
//   key      {seed mod 2^32, seed / 2^32}
//   counter  {i mod 2^32, i / 2^32, stream mod 2^32, stream / 2^32}     i = 0, 1, 2, ...
// block by block, each from word 0 to word 3. The draws below are formed from those words w, taken in order.
class Random {
 public:
  explicit Random(uint64_t seed, uint64_t stream = 0);
  // w: uniform over all 32-bit values.
  uint32_t next();
  // ((w0 >> 5) 2^26 + (w1 >> 6)) / 2^53: uniform in [0, 1).
  double uniform();
  // sqrt(-2 ln(1 - u0)) cos(2 pi u1) of two uniforms: standard normal (Box and Muller), up to the rounding of the C
  // library.
  double normal();
  // (w0 2^32 + w1) mod bound, drawn again while w0 2^32 + w1 < 2^64 mod bound: uniform in [0, bound). bound >= 1.
  uint64_t below(uint64_t bound);
  // Fisher-Yates: for i = size, size - 1, ..., 2 swaps elements i - 1 and below(i).
  template <class T>
  void shuffle(std::vector<T>& values) {
    for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
  }

 private:
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, 4> block_{};
  int used_ = 4;
};

}  // namespace rewardhead
