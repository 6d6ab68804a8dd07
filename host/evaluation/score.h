// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "host/dataset/embeddings.h"
#include "rewardhead/rewardhead.hpp"

namespace rewardhead::evaluation {

// Rows that a plan for scoring takes at once, on every device: work for many threads; 12 MiB of fp32 at 768 columns.
inline constexpr int64_t kBlockRows = 4096;

constexpr size_t element_bytes(rh_dtype dtype) { return dtype == RH_F32 ? 4 : 2; }

// The part of scoring that a device does; see Scorer.
class ScoringDevice {
 public:
  virtual ~ScoringDevice() = default;
  virtual std::vector<float> score_all(const Head& head) = 0;
  virtual void score_rows(const Head& head, std::span<const int32_t> rows, std::span<float> rewards) = 0;
  virtual void keep(std::vector<int32_t> rows) = 0;
  virtual void score_kept(const Head& head, std::span<float> rewards) = 0;
};

// Scores rows of an embedding file in its own storage type, a block at a time, so that memory does not grow with the
// file; on a GPU, the next block is copied there meanwhile. A row's reward does not depend on the rows scored with it:
// all and some give the same bits.
class Scorer {
 public:
  // `hidden` is that of the heads to come. Context and embeddings must outlive the scorer.
  Scorer(const Context& context, const dataset::Embeddings& embeddings, int64_t hidden);

  std::vector<float> score_all(const Head& head) { return device_->score_all(head); }  // [embeddings.rows()]
  // Writes rewards[row] for each row listed and leaves the others; `rewards` has embeddings.rows() elements.
  void score_rows(const Head& head, std::span<const int32_t> rows, std::span<float> rewards) {
    device_->score_rows(head, rows, rewards);
  }

  // For rows, at least one, that many heads will score: a GPU has them in its memory from now on. Throws Error where
  // they do not fit.
  void keep(std::vector<int32_t> rows) { device_->keep(std::move(rows)); }
  // score_rows for the rows kept last.
  void score_kept(const Head& head, std::span<float> rewards) { device_->score_kept(head, rewards); }

 private:
  std::unique_ptr<ScoringDevice> device_;
};

}  // namespace rewardhead::evaluation
