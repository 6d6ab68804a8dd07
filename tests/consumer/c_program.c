/* SPDX-License-Identifier: Apache-2.0
 * Scores two rows with a head small enough to check by hand, takes the loss of one pair, and asks for an error. */
#define _POSIX_C_SOURCE 200112L
#include <math.h>
#include <rewardhead/rewardhead.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int ok, const char* what) {
  if (ok) return;
  fprintf(stderr, "%s is wrong; the last error: %s\n", what, rh_last_error_message());
  exit(1);
}

int main(void) {
  /* row 0: relu(1 + 0 + 1) = 2, relu(-1) = 0, r = 3 * 2 + 0.5 = 6.5; row 1: relu(2 + 2 + 1) = 5, relu(-2) = 0, r = 15.5
   */
  const float x[2][2] = {{1, 0}, {2, 1}};
  float w1[2][2] = {{1, 2}, {-1, 0}}, b1[2] = {1, 0}, w2[2] = {3, 5}, b2[1] = {0.5f};
  rh_tensors head = {&w1[0][0], b1, w2, b2};
  rh_matrix rows = {x, 2, 2};
  const int32_t chosen[1] = {1}, rejected[1] = {0}, same[1] = {0};
  float rewards[2] = {0, 0}, loss = 0, gradient[2] = {7, 7};
  rh_pairs pairs = {1, chosen, rejected, NULL, NULL, NULL};
  rh_context* context = NULL;
  rh_plan* plan = NULL;
  rh_workspace workspace = {NULL, 0};
  rh_plan_options options;

  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.operations = RH_FORWARD | RH_PAIR_LOSS;
  options.rows = 2;
  options.input_dim = 2;
  options.hidden_dim = 2;
  options.input_dtype = RH_F32;
  options.max_pairs = 1;
  options.objective = RH_BRADLEY_TERRY;
  check(rh_context_create(NULL, &context) == RH_OK, "rh_context_create");
  check(rh_plan_create(context, &options, &plan) == RH_OK, "rh_plan_create");
  workspace.bytes = rh_plan_workspace_bytes(plan);
  check(posix_memalign(&workspace.data, RH_ALIGNMENT, workspace.bytes) == 0, "posix_memalign");

  check(rh_forward(plan, &rows, &head, rewards, workspace) == RH_OK, "rh_forward");
  check(rewards[0] == 6.5f && rewards[1] == 15.5f, "a reward");
  check(rh_pair_loss(plan, rewards, 2, &pairs, 0, &loss, gradient, workspace) == RH_OK, "rh_pair_loss");
  check(fabs(loss / log1p(exp(-9.0)) - 1) < 1e-6, "the loss"); /* softplus(-(15.5 - 6.5)) */
  check(gradient[0] == -gradient[1] && gradient[1] < 0, "the gradient");

  loss = 7;
  pairs.rejected = same;
  pairs.chosen = same;
  check(rh_pair_loss(plan, rewards, 2, &pairs, 0, &loss, gradient, workspace) == RH_INVALID_ARGUMENT, "the status");
  check(loss == 7 && strlen(rh_last_error_message()) > 0, "a refused call");

  free(workspace.data);
  rh_plan_destroy(plan);
  rh_context_destroy(context);
  printf("rewardhead %s: rewards %g and %g\n", rh_version(), rewards[0], rewards[1]);
  return 0;
}
