// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "rewardhead/rewardhead.hpp"

namespace rewardhead::training {

// Features with mean 0 and variance 1: x' = (x - mean) / deviation, column by column.
struct Standardization {
  std::vector<double> mean;       // [columns]
  std::vector<double> deviation;  // [columns], divisor n, 0 replaced by 1

  // Of X [rows, columns], rows >= 1, in fp64 and in the order of the rows.
  static Standardization of(std::span<const float> x, int64_t rows);
  void apply(std::span<float> x) const;  // in place, X [rows, columns]
  // The head that gives on x what `head` gives on x', computed in fp64. A linear head has no bias for the constant
  // -sum w mean / deviation, so its rewards are off by that; pairs do not see it.
  Head fold(const Head& head) const;
};

}  // namespace rewardhead::training
