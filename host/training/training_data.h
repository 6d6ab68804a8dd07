// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
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

// Some of the pairs: a mini-batch.
struct Batch {
  std::vector<int32_t> rows;   // of the data's x, that the pairs name, ascending
  dataset::Preferences pairs;  // by position in `rows`

  void choose(const TrainingData& data, std::span<const int64_t> pair_indices);
  // x [rows.size(), data.columns]: the rows one after the other.
  void copy_rows(const TrainingData& data, std::vector<float>& x) const;
};

}  // namespace rewardhead::training
