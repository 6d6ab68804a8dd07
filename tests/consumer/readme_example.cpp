// SPDX-License-Identifier: Apache-2.0
#include <rewardhead/rewardhead.hpp>

int main() {
  const std::vector<float> x = {0, 1, 1, 0, 1, 1, 0, 0};                // embeddings of four responses, [4, 2]
  const std::vector<int32_t> chosen = {1, 2, 2}, rejected = {0, 0, 3};  // 1 was preferred to 0, 2 to 0, 2 to 3
  rewardhead::Context context;                                          // instruction set and threads
  rewardhead::Plan plan(context, {.rows = 4, .input_dim = 2, .hidden_dim = 16, .max_pairs = 3});
  rewardhead::Workspace workspace(plan);
  rewardhead::Head head(2, 16);
  for (int i = 0; float& value : head.values()) value = 0.1f * static_cast<float>(++i % 7 - 3);  // any start
  rewardhead::TrainingState state(head, 4);
  for (int step = 0; step < 200; ++step)  // AdamW at 1e-3
    plan.train_step(rewardhead::matrix(x, 4), {chosen, rejected}, {}, head, state, workspace);
  plan.forward(rewardhead::matrix(x, 4), head, state.rewards, workspace);
  return state.rewards[1] > state.rewards[0] && state.rewards[2] > state.rewards[3] ? 0 : 1;
}
