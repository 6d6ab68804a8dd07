// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/peer.h"
#include "rewardhead/rewardhead.hpp"

namespace rewardhead::bench {
namespace {

// Through the C functions, because the wrapper's Head is one head and an ensemble has many.
class Ours final : public Peer {
 public:
  Ours(const Problem& the_problem, int the_threads)
      : Peer(the_problem, the_threads),
        context_({.device = RH_DEVICE_CPU, .isa = "", .threads = threads}),
        plan_(context_, plan_options(workload)),
        workspace_(plan_),
        x_{workload.dtype == RH_BF16 ? static_cast<const void*>(problem.x_bf16.data()) : problem.x.data(),
           workload.rows, workload.input},
        parameters_(problem.parameters.pointers()),
        gradients_(results.gradients.pointers()) {}

  void forward() override {
    check(rh_forward(plan_.get(), &x_, &parameters_, results.rewards.data(), workspace_.get()));
  }
  void pair_loss() override {
    const rh_pairs list = pairs();
    check(rh_pair_loss(plan_.get(), results.rewards.data(), workload.rows, &list, 0, results.loss.data(),
                       results.reward_gradient.data(), workspace_.get()));
  }
  void backward() override {
    check(rh_backward(plan_.get(), &x_, &parameters_, results.reward_gradient.data(), &gradients_, input_gradient(),
                      workload.input, workspace_.get()));
  }
  void step() override {
    const rh_loss_arguments arguments{sizeof(rh_loss_arguments),
                                      x_,
                                      pairs(),
                                      0,
                                      parameters_,
                                      gradients_,
                                      results.rewards.data(),
                                      results.reward_gradient.data(),
                                      results.loss.data(),
                                      input_gradient(),
                                      workload.input};
    check(rh_loss_gradients(plan_.get(), &arguments, workspace_.get()));
  }
  void adamw() override {
    const AdamwOptions defaults{kLearningRate, kBeta1, kBeta2, kEpsilon, kWeightDecay};
    const rh_adamw_options options = defaults.c(++steps_);
    const rh_tensors parameters = results.parameters.pointers(), first = results.first_moments.pointers(),
                     second = results.second_moments.pointers();
    check(rh_adamw(plan_.get(), &options, &parameters, &gradients_, &first, &second, nullptr, workspace_.get()));
  }

 private:
  static void check(rh_status status) {
    if (status != RH_OK) throw Error(status, rh_last_error_message());
  }
  float* input_gradient() { return results.input_gradient.empty() ? nullptr : results.input_gradient.data(); }
  rh_pairs pairs() const {
    if (workload.adjacent()) return {workload.pairs, nullptr, nullptr, nullptr, nullptr, nullptr};
    return {workload.pairs, problem.chosen.data(), problem.rejected.data(), nullptr, nullptr, nullptr};
  }

  Context context_;
  Plan plan_;
  Workspace workspace_;
  rh_matrix x_;
  rh_tensors parameters_, gradients_;
  int64_t steps_ = 0;
};

}  // namespace

PeerEntry ours_entry() {
  return {"ours", std::string("rewardhead ") + rh_version() + " " + Context().isa(),
          [](const Workload&) { return true; },
          [](const Problem& problem, int threads) -> std::unique_ptr<Peer> {
            return std::make_unique<Ours>(problem, threads);
          }};
}

}  // namespace rewardhead::bench
