// SPDX-License-Identifier: Apache-2.0
//
// Training on a GPU. X, the head, its gradients and moments and the workspace are one piece of device memory. A batch's
// pairs and the rows that they name are chosen on the host and copied to the GPU, and its rows gathered there, by a
// stream of their own while the batch before it executes; losses are read once for all steps of an epoch.
#include "host/training/cuda_learner.h"

#include <algorithm>

#include "host/runtime/device_memory.h"
#include "host/training/gather_rows.h"
#include "kernels/workspace.h"

namespace rewardhead::training {
namespace {

using kernels::Carver;
using runtime::throw_on_cuda_error;

// Pairs in memory of the host or the device; null for what the data do not have.
struct PairArrays {
  int32_t *rows, *chosen, *rejected;
  float *margin, *weight, *label;

  static PairArrays carve(Carver& carver, const dataset::Preferences& like, int64_t rows, int64_t pairs) {
    const auto optional = [&](const std::vector<float>& values) {
      return values.empty() ? nullptr : carver.take<float>(pairs);
    };
    return {carver.take<int32_t>(rows), carver.take<int32_t>(pairs), carver.take<int32_t>(pairs),
            optional(like.margin),      optional(like.weight),       optional(like.label)};
  }

  void fill(const std::vector<int32_t>& all_rows, const dataset::Preferences& pairs) const {
    const auto copy = [](const auto& from, auto* to) { std::copy(from.begin(), from.end(), to); };
    copy(all_rows, rows);
    copy(pairs.chosen, chosen);
    copy(pairs.rejected, rejected);
    copy(pairs.margin, margin);
    copy(pairs.weight, weight);
    copy(pairs.label, label);
  }

  rh_pairs pairs(int64_t count) const { return {count, chosen, rejected, margin, weight, label}; }
};

// What a batch brings, in device memory; two of them take turns.
struct BatchMemory {
  PairArrays pairs;
  float* x;  // [rows, stride]
};

struct Memory {
  void* workspace;  // first, for its alignment
  float *x, *parameters, *gradients, *first_moments, *second_moments, *rewards, *reward_gradient;
  float* figures;  // [steps + 1]: the loss of each step, and the norm of the last gradient
  PairArrays all;  // pairs, where a step takes all
  BatchMemory batches[2];
  size_t bytes;
};

class CudaLearner final : public Learner {
 public:
  CudaLearner(const Context& context, const TrainingData& data, const PlanOptions& plan, const Head& parameters,
              int64_t steps)
      : data_(data),
        stream_(static_cast<cudaStream_t>(context.stream())),
        plan_(context, plan),
        max_steps_(steps),
        batch_bytes_(carve_batch(nullptr, pinned_[0])),
        head_(parameters),
        first_moments_(data.columns, plan.hidden_dim),
        second_moments_(first_moments_),
        device_(carve(nullptr).bytes, "--device cuda: training",
                "A smaller --batch-pairs or --hidden needs less, --device cpu none"),
        memory_(carve(device_.get())),
        pinned_memory_(2 * batch_bytes_),
        turns_(stream_) {
    machine_ = plan_.choices();  // they decide the bits, and name the GPU
    for (size_t set : {0, 1}) carve_batch(static_cast<char*>(pinned_memory_.get()) + set * batch_bytes_, pinned_[set]);
    throw_on_cuda_error(cudaMemcpy2DAsync(memory_.x, static_cast<size_t>(stride()) * sizeof(float), data.x.data(),
                                          static_cast<size_t>(data.columns) * sizeof(float),
                                          static_cast<size_t>(data.columns) * sizeof(float),
                                          static_cast<size_t>(data.rows), cudaMemcpyHostToDevice, stream_),
                        "copying X to the GPU");
    if (takes_all()) copy_all_pairs();
    restore(parameters, first_moments_, second_moments_, 0);
    // The copying stream, which gathers rows of X, does not wait for the computing one.
    throw_on_cuda_error(cudaStreamSynchronize(stream_), "copying the data to the GPU");
  }

  void step(std::span<const int64_t> pair_indices, const AdamwOptions& optimizer) override {
    if (pair_indices.empty()) {
      train({memory_.x, data_.rows, stride()}, memory_.all.pairs(data_.pairs.size()), optimizer);
      return;
    }
    batch_.choose(data_, pair_indices);
    const size_t set = turns_.begin();
    const BatchMemory& batch = memory_.batches[set];
    const int64_t rows = static_cast<int64_t>(batch_.rows.size());
    pinned_[set].fill(batch_.rows, batch_.pairs);
    throw_on_cuda_error(
        cudaMemcpyAsync(batch.pairs.rows, pinned_[set].rows, batch_bytes_, cudaMemcpyHostToDevice, turns_.copying()),
        "copying a batch to the GPU");
    throw_on_cuda_error(gather_rows(memory_.x, batch.pairs.rows, rows, stride(), batch.x, turns_.copying()),
                        "gathering rows");
    turns_.copied();
    train({batch.x, rows, stride()}, batch.pairs.pairs(batch_.pairs.size()), optimizer);
    turns_.used();
  }

  Figures finish() override {
    std::vector<float> figures(static_cast<size_t>(max_steps_) + 1);
    runtime::download(figures.data(), memory_.figures, figures.size() * sizeof(float), stream_);
    // Of the last step; the host has checked the pairs, so this finds damage only.
    int bad = 0;
    detail::throw_on_error(rh_bad_pairs(plan_.get(), workspace(), &bad));
    if (bad) throw Error(RH_INTERNAL_ERROR, "a pair on the GPU names a row that its batch does not have");
    double sum = 0;
    int64_t pairs = 0;
    for (size_t i = 0; i < pairs_of_step_.size(); ++i) {
      sum += static_cast<double>(figures[i]) * static_cast<double>(pairs_of_step_[i]);
      pairs += pairs_of_step_[i];
    }
    pairs_of_step_.clear();
    return {sum / static_cast<double>(pairs), figures.back()};
  }

  const Head& parameters() override { return fetch(memory_.parameters, head_); }
  const Head& first_moments() override { return fetch(memory_.first_moments, first_moments_); }
  const Head& second_moments() override { return fetch(memory_.second_moments, second_moments_); }
  int64_t steps() const override { return steps_; }
  void restore(const Head& parameters, const Head& first_moments, const Head& second_moments, int64_t steps) override {
    runtime::upload(parameters, memory_.parameters, stream_);
    runtime::upload(first_moments, memory_.first_moments, stream_);
    runtime::upload(second_moments, memory_.second_moments, stream_);
    steps_ = steps;
  }
  std::string machine() const override { return machine_; }

 private:
  // Rows begin at multiples of 16 bytes, for the loads of kernels.
  int64_t stride() const { return (data_.columns + 3) / 4 * 4; }
  bool takes_all() const { return plan_.options().max_pairs == data_.pairs.size(); }
  rh_workspace workspace() const { return {memory_.workspace, plan_.workspace_bytes()}; }

  // Carves the arrays of one batch; their bytes.
  size_t carve_batch(void* base, PairArrays& arrays) const {
    Carver carver(base);
    if (!takes_all()) arrays = PairArrays::carve(carver, data_.pairs, plan_.options().rows, plan_.options().max_pairs);
    return carver.bytes();
  }

  Memory carve(void* base) const {
    Carver carver(base);
    Memory m = {};
    const int64_t head = static_cast<int64_t>(head_.values().size()), rows = plan_.options().rows;
    m.workspace = carver.take<char>(static_cast<int64_t>(plan_.workspace_bytes()));
    m.x = carver.take<float>(data_.rows * stride());
    for (float** tensors : {&m.parameters, &m.gradients, &m.first_moments, &m.second_moments}) {
      *tensors = carver.take<float>(head);
    }
    m.rewards = carver.take<float>(rows);
    m.reward_gradient = carver.take<float>(rows);
    m.figures = carver.take<float>(max_steps_ + 1);
    if (takes_all()) {
      m.all = PairArrays::carve(carver, data_.pairs, 0, data_.pairs.size());
    } else {
      for (BatchMemory& batch : m.batches) {
        char* const arrays = carver.take<char>(static_cast<int64_t>(batch_bytes_));
        if (base) carve_batch(arrays, batch.pairs);
        batch.x = carver.take<float>(rows * stride());
      }
    }
    m.bytes = carver.bytes();
    return m;
  }

  void copy_all_pairs() {
    const auto copy = [&](const auto& from, auto* to) {
      if (from.empty()) return;
      throw_on_cuda_error(
          cudaMemcpyAsync(to, from.data(), from.size() * sizeof from[0], cudaMemcpyHostToDevice, stream_),
          "copying the pairs to the GPU");
    };
    copy(data_.pairs.chosen, memory_.all.chosen);
    copy(data_.pairs.rejected, memory_.all.rejected);
    copy(data_.pairs.margin, memory_.all.margin);
    copy(data_.pairs.weight, memory_.all.weight);
    copy(data_.pairs.label, memory_.all.label);
  }

  void train(const rh_matrix& x, const rh_pairs& pairs, const AdamwOptions& optimizer) {
    const auto tensors = [&](float* values) { return runtime::tensors_at(values, head_); };
    const rh_train_arguments arguments{sizeof(rh_train_arguments),
                                       x,
                                       pairs,
                                       0,
                                       optimizer.c(steps_ + 1),
                                       tensors(memory_.parameters),
                                       tensors(memory_.gradients),
                                       tensors(memory_.first_moments),
                                       tensors(memory_.second_moments),
                                       memory_.rewards,
                                       memory_.reward_gradient,
                                       memory_.figures + pairs_of_step_.size(),
                                       memory_.figures + max_steps_};
    detail::throw_on_error(rh_train_step(plan_.get(), &arguments, workspace()));
    pairs_of_step_.push_back(pairs.count);
    ++steps_;
  }

  const Head& fetch(const float* values, Head& head) const {
    runtime::download(head.values().data(), values, head.values().size_bytes(), stream_);
    return head;
  }

  const TrainingData& data_;
  cudaStream_t stream_;
  Plan plan_;
  int64_t max_steps_;
  PairArrays pinned_[2] = {};
  size_t batch_bytes_;
  Head head_, first_moments_, second_moments_;  // as last fetched
  runtime::DeviceMemory device_;
  Memory memory_;
  runtime::PinnedMemory pinned_memory_;
  runtime::TwoTurns turns_;  // after the memory that its copies use
  std::string machine_;
  Batch batch_;
  std::vector<int64_t> pairs_of_step_;  // since the last finish()
  int64_t steps_ = 0;
};

}  // namespace

std::unique_ptr<Learner> make_cuda_learner(const Context& context, const TrainingData& data, const PlanOptions& plan,
                                           const Head& parameters, int64_t steps) {
  return std::make_unique<CudaLearner>(context, data, plan, parameters, steps);
}

}  // namespace rewardhead::training
