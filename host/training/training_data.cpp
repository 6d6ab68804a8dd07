// SPDX-License-Identifier: Apache-2.0
#include "host/training/training_data.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace rewardhead::training {
namespace {

// Replaces each row of `pairs` by its position in `rows`, which is ascending.
void renumber(const std::vector<int32_t>& rows, dataset::Preferences& pairs) {
  for (std::vector<int32_t>* side : {&pairs.chosen, &pairs.rejected}) {
    for (int32_t& row : *side) {
      row = static_cast<int32_t>(std::lower_bound(rows.begin(), rows.end(), row) - rows.begin());
    }
  }
}

template <class Word>
void add_words(const std::vector<Word>& words, uint64_t& hash) {
  static_assert(sizeof(Word) == sizeof(uint32_t));
  constexpr uint64_t kPrime = 0x100000001b3;
  hash = (hash ^ words.size()) * kPrime;
  for (const Word word : words) {
    uint32_t bits;
    std::memcpy(&bits, &word, sizeof bits);
    hash = (hash ^ bits) * kPrime;
  }
}

}  // namespace

std::string TrainingData::fingerprint() const {
  uint64_t hash = 0xcbf29ce484222325;
  add_words(x, hash);
  add_words(pairs.chosen, hash);
  add_words(pairs.rejected, hash);
  add_words(pairs.margin, hash);
  add_words(pairs.weight, hash);
  add_words(pairs.label, hash);
  std::string digits;
  for (int shift = 60; shift >= 0; shift -= 4) digits += "0123456789abcdef"[(hash >> shift) & 15];
  return digits;
}

TrainingData gather(const dataset::Embeddings& embeddings, const dataset::Preferences& preferences, bool standardize) {
  const std::vector<int32_t> rows = dataset::distinct_rows(preferences);
  TrainingData data{.x = std::vector<float>(rows.size() * static_cast<size_t>(embeddings.columns())),
                    .rows = static_cast<int64_t>(rows.size()),
                    .columns = embeddings.columns(),
                    .pairs = preferences,
                    .standardization = std::nullopt};
  for (size_t i = 0; i < rows.size(); ++i) {
    embeddings.copy_row(rows[i], data.x.data() + i * static_cast<size_t>(embeddings.columns()));
  }
  renumber(rows, data.pairs);
  if (standardize) {
    data.standardization = Standardization::of(data.x, data.rows);
    data.standardization->apply(data.x);
  }
  return data;
}

void Batch::choose(const TrainingData& data, std::span<const int64_t> pair_indices) {
  pairs = dataset::select(data.pairs, {pair_indices.begin(), pair_indices.end()});
  rows = dataset::distinct_rows(pairs);
  renumber(rows, pairs);
}

void Batch::copy_rows(const TrainingData& data, std::vector<float>& x) const {
  const size_t columns = static_cast<size_t>(data.columns);
  x.resize(rows.size() * columns);
  for (size_t i = 0; i < rows.size(); ++i) {
    std::copy_n(data.x.data() + static_cast<size_t>(rows[i]) * columns, columns, x.data() + i * columns);
  }
}

}  // namespace rewardhead::training
