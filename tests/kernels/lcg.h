// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace rewardhead::kernels::testing {

// The generator of tests/tools/make_torch_figures.py: exact in float, in [-1, 1).
class Lcg {
 public:
  explicit Lcg(uint64_t seed) : state_(seed) {}
  double operator()() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state_ >> 40) / (1 << 23) - 1;
  }

 private:
  uint64_t state_;
};

}  // namespace rewardhead::kernels::testing
