/* SPDX-License-Identifier: Apache-2.0
 *
 * The header is C99, and a C program trains with it: on two rows that differ in one feature the loss goes to zero. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rewardhead/rewardhead.h"

static void require(int condition, const char* what) {
  if (condition) return;
  fprintf(stderr, "%s: %s\n", what, rh_last_error_message());
  exit(1);
}

int main(void) {
  rh_context* context = NULL;
  rh_plan* plan = NULL;
  rh_plan_options options = {0};
  rh_train_arguments step = {0};
  rh_workspace workspace;
  void* memory;
  float x[2][2] = {{1, 1}, {1, -1}};
  float parameters[13], gradients[13], first[13] = {0}, second[13] = {0};
  float rewards[2], reward_gradient[2], loss = 0, first_loss = 0;
  int i;

  for (i = 0; i < 13; ++i) parameters[i] = (float)((i * 7 % 5) - 2) / 4;
  require(rh_context_create(NULL, &context) == RH_OK, "rh_context_create");
  options.struct_size = sizeof options;
  options.operations = RH_TRAIN;
  options.rows = 2;
  options.input_dim = 2;
  options.hidden_dim = 3;
  options.input_dtype = RH_F32;
  options.max_pairs = 1;
  options.objective = RH_BRADLEY_TERRY;
  require(rh_plan_create(context, &options, &plan) == RH_OK, "rh_plan_create");

  workspace.bytes = rh_plan_workspace_bytes(plan);
  memory = malloc(workspace.bytes + RH_ALIGNMENT);
  require(memory != NULL, "malloc");
  workspace.data = (char*)memory + (RH_ALIGNMENT - (uintptr_t)memory % RH_ALIGNMENT);

  step.struct_size = sizeof step;
  step.x.data = x;
  step.x.rows = 2;
  step.x.row_stride = 2;
  step.pairs.count = 1; /* rows 0 and 1 */
  step.optimizer.struct_size = sizeof step.optimizer;
  step.optimizer.learning_rate = 0.05;
  step.optimizer.beta1 = 0.9;
  step.optimizer.beta2 = 0.999;
  step.optimizer.epsilon = 1e-8;
  {
    float* all[4];
    rh_tensors* tensors[4];
    all[0] = parameters, all[1] = gradients, all[2] = first, all[3] = second;
    tensors[0] = &step.parameters, tensors[1] = &step.gradients;
    tensors[2] = &step.first_moments, tensors[3] = &step.second_moments;
    for (i = 0; i < 4; ++i) {
      tensors[i]->w1 = all[i];
      tensors[i]->b1 = all[i] + 6;
      tensors[i]->w2 = all[i] + 9;
      tensors[i]->b2 = all[i] + 12;
    }
  }
  step.rewards = rewards;
  step.reward_gradient = reward_gradient;
  step.loss = &loss;
  for (i = 1; i <= 200; ++i) {
    step.optimizer.step = i;
    require(rh_train_step(plan, &step, workspace) == RH_OK, "rh_train_step");
    if (i == 1) first_loss = loss;
  }
  require(first_loss > 0.1f && loss < 0.01f, "the loss did not fall");
  require(fabs(loss - log1p(exp(rewards[1] - rewards[0]))) < 1e-5, "the loss is not that of the rewards");

  step.pairs.count = 2;
  require(rh_train_step(plan, &step, workspace) == RH_INVALID_ARGUMENT, "two pairs of two rows were accepted");
  require(strstr(rh_last_error_message(), "pairs->count is 2") != NULL, "the message does not name pairs->count");

  free(memory);
  rh_plan_destroy(plan);
  rh_context_destroy(context);
  return 0;
}
