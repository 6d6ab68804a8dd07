// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/peer.h"

namespace rewardhead::bench {

Results::Results(const Problem& problem) {
  const Workload& w = problem.workload;
  if (w.operation == Operation::adamw) {
    parameters = problem.parameters;
    gradients = first_moments = second_moments = Tensors(w);
    fill_normal(gradients.values, 0.01f);
    return;
  }
  rewards.resize(static_cast<size_t>(w.members * w.rows));
  fill_normal(rewards, 1);
  if (w.operation == Operation::forward) return;
  reward_gradient.resize(rewards.size());
  fill_normal(reward_gradient, 0.01f);
  if (w.has_loss()) loss.resize(static_cast<size_t>(w.members));
  if (w.trains()) gradients = Tensors(w);
  if (w.operation == Operation::step_dx) input_gradient.resize(static_cast<size_t>(w.rows * w.input));
}

}  // namespace rewardhead::bench
