// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "host/dataset/embeddings.h"
#include "host/dataset/preferences.h"
#include "host/training/standardization.h"

namespace rewardhead::training {

// Pairs, and an fp32 copy of the rows that they name and no others.
struct TrainingData {
  std::vector<float> x;  // [rows, columns]
  int64_t rows;
  int64_t columns;
  dataset::Preferences pairs;                      // by row of x
  std::optional<Standardization> standardization;  // already applied to x

  rh_matrix matrix() const { return {x.data(), rows, columns}; }
  // Sixteen hexadecimal digits that other rows or pairs would very likely change (FNV-1a).
  std::string fingerprint() const;
};

TrainingData gather(const dataset::Embeddings& embeddings, const dataset::Preferences& preferences, bool standardize);

// The rows that `pairs` name, copied one after the other, and the pairs by row of the copy: a mini-batch. Its vectors
// keep their memory from one call to the next.
class Batch {
 public:
  void gather(const TrainingData& data, const std::vector<int64_t>& pair_indices);
  rh_matrix matrix() const { return {x_.data(), rows_, columns_}; }
  const dataset::Preferences& pairs() const { return pairs_; }

 private:
  std::vector<float> x_;
  int64_t rows_ = 0;
  int64_t columns_ = 0;
  dataset::Preferences pairs_;
};

}  // namespace rewardhead::training
