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
  std::vector<double> deviation;  // [columns], divisor n; 1 for a column that counts as constant

  // A column counts as constant where its deviation is at most this share of the largest one. Sentence embeddings have
  // dead columns that hold the rounding errors of their network (1e-8 beside 0.07), or 1e-32 in place of 0, and those
  // must not become features of variance 1.
  static constexpr double kNoise = 0x1p-22;

  // Of X [rows, columns], rows >= 1, in fp64 and in the order of the rows.
  static Standardization of(std::span<const float> x, int64_t rows);
  void apply(std::span<float> x) const;  // in place, X [rows, columns]
  // The head that gives on x what `head` gives on x', computed in fp64. A linear head has no bias for the constant
  // -sum w mean / deviation, so its rewards are off by that; pairs do not see it.
  Head fold(const Head& head) const;
};

}  // namespace rewardhead::training
