// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "host/dataset/preferences.h"
#include "host/dataset/random.h"
#include "tests/host/dataset/files.h"

namespace rewardhead {

// A small made-up preference data set: 6 groups of 10 responses with 12 features of different scales and offsets (the
// last one constant), and 150 pairs within groups, decided by a hidden linear rule with noise.
struct Sample {
  static constexpr int64_t kRows = 60, kColumns = 12, kPairs = 150, kGroupRows = 10;
  std::vector<float> x;  // [kRows, kColumns]
  dataset::Preferences pairs;
  std::filesystem::path embeddings_file, items_file, pairs_file;
};

inline std::string npy_file(const std::vector<float>& x, int64_t rows, int64_t columns) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(rows) + ", " +
                       std::to_string(columns) + "), }";
  header.resize(117, ' ');
  return dataset::npy(header + "\n", dataset::bytes_of(x));
}

inline Sample write_sample(const std::filesystem::path& folder) {
  const auto write = [&](const char* name, const std::string& contents) {
    std::ofstream(folder / name, std::ios::binary) << contents;
    return folder / name;
  };
  Sample sample;
  Random random(7);
  for (int64_t i = 0; i < Sample::kRows * Sample::kColumns; ++i) {
    const double column = static_cast<double>(i % Sample::kColumns);
    const double scale = column == Sample::kColumns - 1 ? 0 : std::exp2(column - 6);
    sample.x.push_back(static_cast<float>(scale * random.normal() + 0.1 * column));
  }
  const auto value = [&](int32_t row) {
    double sum = random.normal();
    for (int64_t j = 0; j + 1 < Sample::kColumns; ++j) {
      const double feature = sample.x[static_cast<size_t>(row * Sample::kColumns + j)] - 0.1 * static_cast<double>(j);
      sum += feature / std::exp2(static_cast<double>(j - 6)) * (j % 2 == 0 ? 1 : -0.5);
    }
    return sum;
  };
  std::string items = "row,id,topic,tokens\n", pairs = "chosen,rejected\n";
  for (int64_t row = 0; row < Sample::kRows; ++row) {
    items += std::to_string(row) + ",item" + std::to_string(row) + ",topic" + std::to_string(row / Sample::kGroupRows) +
             "," + std::to_string(5 + random.below(40)) + "\n";
  }
  for (int64_t pair = 0; pair < Sample::kPairs; ++pair) {
    const int32_t first = static_cast<int32_t>(Sample::kGroupRows * random.below(Sample::kRows / Sample::kGroupRows));
    int32_t a = static_cast<int32_t>(random.below(Sample::kGroupRows));
    int32_t b = (a + 1 + static_cast<int32_t>(random.below(Sample::kGroupRows - 1))) %
                static_cast<int32_t>(Sample::kGroupRows);
    a += first, b += first;
    if (value(a) < value(b)) std::swap(a, b);
    sample.pairs.chosen.push_back(a);
    sample.pairs.rejected.push_back(b);
    pairs += "item" + std::to_string(a) + ",item" + std::to_string(b) + "\n";
  }
  sample.embeddings_file = write("embeddings.npy", npy_file(sample.x, Sample::kRows, Sample::kColumns));
  sample.items_file = write("items.csv", items);
  sample.pairs_file = write("pairs.csv", pairs);
  return sample;
}

}  // namespace rewardhead
