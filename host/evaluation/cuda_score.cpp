// SPDX-License-Identifier: Apache-2.0
//
// Scoring on a GPU: blocks of rows are copied there one while the other is scored, or have been kept there. Rewards
// come back together.
#include "host/evaluation/cuda_score.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>

#include "host/runtime/device_memory.h"

namespace rewardhead::evaluation {
namespace {

using runtime::DeviceMemory;

// Where the GPU has too little memory.
constexpr const char *kPurpose = "--device cuda: scoring", *kAdvice = "Use --device cpu";
using runtime::throw_on_cuda_error;

class CudaScoring final : public ScoringDevice {
 public:
  CudaScoring(const Context& context, const dataset::Embeddings& embeddings, const PlanOptions& plan)
      : embeddings_(embeddings),
        stream_(static_cast<cudaStream_t>(context.stream())),
        plan_(context, plan),
        workspace_(plan_.workspace_bytes(), kPurpose, kAdvice),
        parameters_(Head(plan.input_dim, plan.hidden_dim).values().size_bytes(), kPurpose, kAdvice) {}

  std::vector<float> score_all(const Head& head) override {
    std::vector<int32_t> rows(static_cast<size_t>(embeddings_.rows()));
    std::iota(rows.begin(), rows.end(), 0);
    std::vector<float> rewards(rows.size());
    score_rows(head, rows, rewards);
    return rewards;
  }

  void score_rows(const Head& head, std::span<const int32_t> rows, std::span<float> rewards) override {
    if (rows.empty()) return;
    const DeviceMemory device_rewards(rows.size() * sizeof(float), kPurpose, kAdvice);
    runtime::upload(head, parameters(), stream_);
    copy_blocks(rows, [&](size_t first, size_t count, const void* block) {
      forward(head, block, count, static_cast<float*>(device_rewards.get()) + first);
    });
    fetch(device_rewards, rows, rewards);
  }

  void keep(std::vector<int32_t> rows) override {
    kept_rows_ = std::move(rows);
    kept_.emplace(kept_rows_.size() * pitch(), "--device cuda: keeping the held-out rows",
                  "Holding out less needs less, --device cpu none");
    copy_blocks(kept_rows_, [&](size_t first, size_t count, const void* block) {
      throw_on_cuda_error(cudaMemcpyAsync(kept(first), block, count * pitch(), cudaMemcpyDeviceToDevice, stream_),
                          "keeping rows");
    });
  }

  void score_kept(const Head& head, std::span<float> rewards) override {
    const DeviceMemory device_rewards(kept_rows_.size() * sizeof(float), kPurpose, kAdvice);
    runtime::upload(head, parameters(), stream_);
    for (size_t first = 0; first < kept_rows_.size(); first += kBlockRows) {
      forward(head, kept(first), std::min<size_t>(kBlockRows, kept_rows_.size() - first),
              static_cast<float*>(device_rewards.get()) + first);
    }
    fetch(device_rewards, kept_rows_, rewards);
  }

 private:
  // Elements from one row to the next: rows begin at multiples of 16 bytes, for the loads of kernels.
  size_t stride() const { return (static_cast<size_t>(embeddings_.columns()) + 7) / 8 * 8; }
  size_t pitch() const { return stride() * element_bytes(embeddings_.dtype()); }
  float* parameters() const { return static_cast<float*>(parameters_.get()); }
  char* kept(size_t row) const { return static_cast<char*>(kept_->get()) + row * pitch(); }

  // Calls use(first, count, block) for the rows from rows[first] on, which `block` will have on the device when the
  // computing stream comes to what `use` enqueues on it, and until then.
  template <class Use>
  void copy_blocks(std::span<const int32_t> rows, const Use& use) const {
    const size_t row_bytes = static_cast<size_t>(embeddings_.columns()) * element_bytes(embeddings_.dtype());
    const size_t block_rows = std::min<size_t>(rows.size(), kBlockRows), block_bytes = block_rows * pitch();
    const DeviceMemory device(2 * block_bytes, kPurpose, kAdvice);
    const runtime::PinnedMemory pinned(2 * block_bytes);
    runtime::TwoTurns turns(stream_);
    for (size_t first = 0; first < rows.size(); first += block_rows) {
      const auto block = rows.subspan(first, std::min(block_rows, rows.size() - first));
      const size_t set = turns.begin();
      char* const from = static_cast<char*>(pinned.get()) + set * block_bytes;
      char* const to = static_cast<char*>(device.get()) + set * block_bytes;
      for (size_t i = 0; i < block.size(); ++i) std::memcpy(from + i * pitch(), embeddings_.row(block[i]), row_bytes);
      throw_on_cuda_error(cudaMemcpyAsync(to, from, block.size() * pitch(), cudaMemcpyHostToDevice, turns.copying()),
                          "copying rows to the GPU");
      turns.copied();
      use(first, block.size(), to);
      turns.used();
    }
    throw_on_cuda_error(cudaStreamSynchronize(stream_), "waiting for the GPU");
  }

  void forward(const Head& head, const void* block, size_t rows, float* rewards) const {
    const rh_matrix x = {block, static_cast<int64_t>(rows), static_cast<int64_t>(stride())};
    const rh_tensors tensors = runtime::tensors_at(parameters(), head);
    detail::throw_on_error(rh_forward(plan_.get(), &x, &tensors, rewards, {workspace_.get(), plan_.workspace_bytes()}));
  }

  void fetch(const DeviceMemory& device_rewards, std::span<const int32_t> rows, std::span<float> rewards) const {
    std::vector<float> in_order(rows.size());
    runtime::download(in_order.data(), device_rewards.get(), in_order.size() * sizeof(float), stream_);
    for (size_t i = 0; i < rows.size(); ++i) rewards[static_cast<size_t>(rows[i])] = in_order[i];
  }

  const dataset::Embeddings& embeddings_;
  cudaStream_t stream_;
  Plan plan_;
  DeviceMemory workspace_, parameters_;
  std::optional<DeviceMemory> kept_;  // [kept_rows_.size(), stride()]
  std::vector<int32_t> kept_rows_;
};

}  // namespace

std::unique_ptr<ScoringDevice> make_cuda_scoring(const Context& context, const dataset::Embeddings& embeddings,
                                                 const PlanOptions& plan) {
  return std::make_unique<CudaScoring>(context, embeddings, plan);
}

}  // namespace rewardhead::evaluation
