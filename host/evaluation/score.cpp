// SPDX-License-Identifier: Apache-2.0
#include "host/evaluation/score.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "host/evaluation/cuda_score.h"
#include "host/runtime/cuda.h"

namespace rewardhead::evaluation {
namespace {

class CpuScoring final : public ScoringDevice {
 public:
  CpuScoring(const Context& context, const dataset::Embeddings& embeddings, const PlanOptions& plan)
      : embeddings_(embeddings), plan_(context, plan), workspace_(plan_) {}

  std::vector<float> score_all(const Head& head) override {
    std::vector<float> rewards(static_cast<size_t>(embeddings_.rows()));
    for (int64_t first = 0; first < embeddings_.rows(); first += kBlockRows) {
      const int64_t count = std::min(kBlockRows, embeddings_.rows() - first);
      plan_.forward({embeddings_.row(first), count, embeddings_.columns()}, head,
                    std::span(rewards).subspan(static_cast<size_t>(first), static_cast<size_t>(count)), workspace_);
    }
    return rewards;
  }

  void score_rows(const Head& head, std::span<const int32_t> rows, std::span<float> rewards) override {
    const size_t row_bytes = static_cast<size_t>(embeddings_.columns()) * element_bytes(embeddings_.dtype());
    const size_t block_rows = std::min<size_t>(rows.size(), static_cast<size_t>(kBlockRows));
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

  void keep(std::vector<int32_t> rows) override { kept_ = std::move(rows); }
  void score_kept(const Head& head, std::span<float> rewards) override { score_rows(head, kept_, rewards); }

 private:
  const dataset::Embeddings& embeddings_;
  Plan plan_;
  Workspace workspace_;
  std::vector<std::byte> block_;  // gathered rows
  std::vector<int32_t> kept_;
};

}  // namespace

Scorer::Scorer(const Context& context, const dataset::Embeddings& embeddings, int64_t hidden) {
  const PlanOptions plan{.rows = kBlockRows,  // also for fewer, since plans for few rows round otherwise
                         .input_dim = embeddings.columns(),
                         .hidden_dim = hidden,
                         .operations = RH_FORWARD,
                         .input_dtype = embeddings.dtype()};
  if constexpr (runtime::kHasCuda) {
    if (context.device() == RH_DEVICE_CUDA) {
      device_ = make_cuda_scoring(context, embeddings, plan);
      return;
    }
  }
  device_ = std::make_unique<CpuScoring>(context, embeddings, plan);
}

}  // namespace rewardhead::evaluation
