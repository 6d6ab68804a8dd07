// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/peer.h"

#include <algorithm>
#include <cmath>

namespace rewardhead::bench {

Results::Results(const Problem& problem) {
  const Workload& w = problem.workload;
  if (w.updates()) {
    parameters = problem.parameters;
    gradients = first_moments = second_moments = Tensors(w);
    fill_normal(gradients.values, 0.01f);
  }
  if (w.operation == Operation::adamw) return;
  rewards.resize(static_cast<size_t>(w.members * w.rows));
  fill_normal(rewards, 1);
  if (w.operation == Operation::forward) return;
  reward_gradient.resize(rewards.size());
  fill_normal(reward_gradient, 0.01f);
  if (w.has_loss()) loss.resize(static_cast<size_t>(w.members));
  if (w.trains()) gradients = Tensors(w);
  if (w.has_input_gradient()) input_gradient.resize(static_cast<size_t>(w.rows * w.input));
}

namespace {

uint32_t operations(Operation operation) {
  switch (operation) {
    case Operation::forward:
      return RH_FORWARD;
    case Operation::backward:
      return RH_BACKWARD;
    case Operation::pair_loss:
      return RH_PAIR_LOSS;
    case Operation::step:
      return RH_PAIR_LOSS | RH_BACKWARD;
    case Operation::step_dx:
      return RH_PAIR_LOSS | RH_BACKWARD | RH_INPUT_GRADIENT;
    case Operation::adamw:
      return RH_OPTIMIZER;
    case Operation::backward_dx:
      return RH_BACKWARD | RH_INPUT_GRADIENT;
    case Operation::train:
      return RH_TRAIN;
  }
  return 0;
}

}  // namespace

PlanOptions plan_options(const Workload& w) {
  return {.rows = std::max<int64_t>(1, w.rows),
          .input_dim = w.input,
          .hidden_dim = w.hidden,
          .max_pairs = w.pairs,
          .operations = operations(w.operation),
          .input_dtype = w.dtype,
          .members = w.members};
}

// The norm of the difference beside the norm: single gradients may differ more, since a z within rounding of 0 is
// active here and not there.
std::string difference(const Results& ours, const Results& theirs) {
  std::string found;
  const auto compare = [&](const char* name, const Array<float>& a, const Array<float>& b, double tolerance) {
    double distance = 0, norm = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      distance += std::pow(static_cast<double>(a[i]) - b[i], 2);
      norm += std::pow(static_cast<double>(a[i]), 2);
    }
    const double relative = std::sqrt(distance / norm);
    if (a.empty() || relative <= tolerance) return;  // NaN is not <= anything
    found += std::string(name) + " differ by " + std::to_string(relative) + "; ";
  };
  compare("rewards", ours.rewards, theirs.rewards, 1e-4);
  compare("loss", ours.loss, theirs.loss, 1e-4);
  compare("reward gradients", ours.reward_gradient, theirs.reward_gradient, 1e-4);
  compare("gradients", ours.gradients.values, theirs.gradients.values, 1e-2);
  compare("input gradients", ours.input_gradient, theirs.input_gradient, 1e-2);
  compare("parameters", ours.parameters.values, theirs.parameters.values, 1e-4);
  compare("first moments", ours.first_moments.values, theirs.first_moments.values, 1e-4);
  compare("second moments", ours.second_moments.values, theirs.second_moments.values, 1e-4);
  return found;
}

}  // namespace rewardhead::bench
