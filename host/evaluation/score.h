// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "host/dataset/embeddings.h"
#include "rewardhead/rewardhead.hpp"

namespace rewardhead::evaluation {

// Scores rows of an embedding file in its own storage type, a block at a time, so that memory does not grow with the
// file. A row's reward does not depend on the rows scored with it: all and some give the same bits.
class Scorer {
 public:
  // `hidden` is that of the heads to come. Context and embeddings must outlive the scorer.
  Scorer(const Context& context, const dataset::Embeddings& embeddings, int64_t hidden);

  std::vector<float> score_all(const Head& head);  // [embeddings.rows()]
  // Writes rewards[row] for each row listed and leaves the others; `rewards` has embeddings.rows() elements.
  void score_rows(const Head& head, std::span<const int32_t> rows, std::span<float> rewards);

 private:
  const dataset::Embeddings& embeddings_;
  Plan plan_;
  Workspace workspace_;
  std::vector<std::byte> block_;  // gathered rows
};

}  // namespace rewardhead::evaluation
