// SPDX-License-Identifier: Apache-2.0
#include "host/training/learner.h"

#include "host/runtime/cuda.h"
#include "host/training/cuda_learner.h"

namespace rewardhead::training {
namespace {

class CpuLearner final : public Learner {
 public:
  CpuLearner(const Context& context, const TrainingData& data, const PlanOptions& plan, const Head& parameters)
      : data_(data),
        machine_(context.isa()),
        plan_(context, plan),
        workspace_(plan_),
        head_(parameters),
        state_(head_, plan.rows) {}

  void step(std::span<const int64_t> pair_indices, const AdamwOptions& optimizer) override {
    if (pair_indices.empty()) {
      train(data_.matrix(), data_.pairs, optimizer);
      return;
    }
    batch_.choose(data_, pair_indices);
    batch_.copy_rows(data_, x_);
    train({x_.data(), static_cast<int64_t>(batch_.rows.size()), data_.columns}, batch_.pairs, optimizer);
  }

  Figures finish() override {
    const Figures figures = {loss_sum_ / static_cast<double>(pairs_), state_.gradient_norm};
    loss_sum_ = 0;
    pairs_ = 0;
    return figures;
  }

  const Head& parameters() override { return head_; }
  const Head& first_moments() override { return state_.first_moments; }
  const Head& second_moments() override { return state_.second_moments; }
  int64_t steps() const override { return state_.step; }
  void restore(const Head& parameters, const Head& first_moments, const Head& second_moments, int64_t steps) override {
    head_ = parameters;
    state_.first_moments = first_moments;
    state_.second_moments = second_moments;
    state_.step = steps;
  }
  std::string machine() const override { return machine_; }

 private:
  void train(const rh_matrix& x, const dataset::Preferences& pairs, const AdamwOptions& optimizer) {
    const Pairs view{.chosen = pairs.chosen,
                     .rejected = pairs.rejected,
                     .margin = pairs.margin,
                     .weight = pairs.weight,
                     .label = pairs.label};
    const double loss = plan_.train_step(x, view, optimizer, head_, state_, workspace_);
    loss_sum_ += loss * static_cast<double>(pairs.size());
    pairs_ += pairs.size();
  }

  const TrainingData& data_;
  std::string machine_;
  Plan plan_;
  Workspace workspace_;
  Head head_;
  TrainingState state_;
  Batch batch_;
  std::vector<float> x_;  // of the batch
  double loss_sum_ = 0;   // over pairs_, since the last finish()
  int64_t pairs_ = 0;
};

}  // namespace

std::unique_ptr<Learner> make_learner(const Context& context, const TrainingData& data, const PlanOptions& plan,
                                      const Head& parameters, int64_t steps) {
  if constexpr (runtime::kHasCuda) {
    if (context.device() == RH_DEVICE_CUDA) return make_cuda_learner(context, data, plan, parameters, steps);
  }
  return std::make_unique<CpuLearner>(context, data, plan, parameters);
}

}  // namespace rewardhead::training
