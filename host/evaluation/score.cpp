// SPDX-License-Identifier: Apache-2.0
#include "host/evaluation/score.h"

#include <algorithm>
#include <cstring>

namespace rewardhead::evaluation {
namespace {

constexpr int64_t kBlockRows = 4096;  // work for many threads; 12 MiB of fp32 at 768 columns

size_t element_bytes(rh_dtype dtype) { return dtype == RH_F32 ? 4 : 2; }

PlanOptions plan_options(const dataset::Embeddings& embeddings, int64_t hidden) {
  return {.rows = kBlockRows,  // also for fewer, since plans for few rows round otherwise
          .input_dim = embeddings.columns(),
          .hidden_dim = hidden,
          .operations = RH_FORWARD,
          .input_dtype = embeddings.dtype()};
}

}  // namespace

Scorer::Scorer(const Context& context, const dataset::Embeddings& embeddings, int64_t hidden)
    : embeddings_(embeddings), plan_(context, plan_options(embeddings, hidden)), workspace_(plan_) {}

std::vector<float> Scorer::score_all(const Head& head) {
  std::vector<float> rewards(static_cast<size_t>(embeddings_.rows()));
  for (int64_t first = 0; first < embeddings_.rows(); first += kBlockRows) {
    const int64_t count = std::min(kBlockRows, embeddings_.rows() - first);
    plan_.forward({embeddings_.row(first), count, embeddings_.columns()}, head,
                  std::span(rewards).subspan(static_cast<size_t>(first), static_cast<size_t>(count)), workspace_);
  }
  return rewards;
}

void Scorer::score_rows(const Head& head, std::span<const int32_t> rows, std::span<float> rewards) {
  const size_t row_bytes = static_cast<size_t>(embeddings_.columns()) * element_bytes(embeddings_.dtype());
  const size_t block_rows = std::min<size_t>(rows.size(), static_cast<size_t>(plan_.options().rows));
  block_.resize(block_rows * row_bytes);
  std::vector<float> block_rewards(block_rows);
  for (size_t first = 0; first < rows.size(); first += block_rows) {
    const auto block = rows.subspan(first, std::min(block_rows, rows.size() - first));
    for (size_t i = 0; i < block.size(); ++i) {
      std::memcpy(block_.data() + i * row_bytes, embeddings_.row(block[i]), row_bytes);
    }
    plan_.forward({block_.data(), static_cast<int64_t>(block.size()), embeddings_.columns()}, head,
                  std::span(block_rewards).first(block.size()), workspace_);
    for (size_t i = 0; i < block.size(); ++i) rewards[static_cast<size_t>(block[i])] = block_rewards[i];
  }
}

}  // namespace rewardhead::evaluation
