// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace rewardhead {

// Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3; SC 2011), the one generator
// of the project: counter-based, the same numbers on every machine. A stream is named by (seed, stream).
class Random {
 public:
  explicit Random(uint64_t seed, uint64_t stream = 0);
  uint32_t next();                 // uniform over all 32-bit values
  double uniform();                // [0, 1), 53 bits: two draws
  double normal();                 // standard normal, Box-Muller: four draws
  uint64_t below(uint64_t bound);  // uniform in [0, bound), without bias; bound >= 1
  template <class T>
  void shuffle(std::vector<T>& values) {  // Fisher-Yates, from the last element down
    for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
  }

 private:
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, 4> block_{};
  int used_ = 4;
};

}  // namespace rewardhead
