// SPDX-License-Identifier: Apache-2.0
//
// What is measured: one operation at one shape. The list of all of them stands in workloads.cpp and nowhere else.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rewardhead/rewardhead.h"

namespace rewardhead::bench {

enum class Operation {
  forward,      // rewards of X
  backward,     // gradients of all parameters from the rewards' gradient; the forward was done before
  backward_dx,  // the same and the gradient of X
  pair_loss,    // loss and the rewards' gradient
  step,         // forward, pair loss, gradients of all parameters
  step_dx,      // the same and the gradient of X
  adamw,        // one update
  train         // step and adamw: what rh_train_step does
};

// A dimension that the operation does not have is 0. hidden 0 with an input is the linear head.
struct Workload {
  std::string regimes;  // where the shape comes from, as in the list; several with blanks between
  Operation operation;
  int64_t input, hidden, members, rows, pairs;
  rh_dtype dtype;
  int density;     // per cent of the hidden units that are active; 0: as a new head has it, about half
  bool all_peers;  // false: beside OpenBLAS alone

  bool scores() const { return operation != Operation::adamw && operation != Operation::pair_loss; }
  bool trains() const { return scores() && operation != Operation::forward; }
  bool updates() const { return operation == Operation::adamw || operation == Operation::train; }
  bool has_input_gradient() const { return operation == Operation::step_dx || operation == Operation::backward_dx; }
  bool has_loss() const { return pairs > 0; }
  bool adjacent() const { return 2 * pairs == rows; }  // pair i is rows 2i and 2i+1
  int64_t parameters() const { return members * (hidden == 0 ? input : hidden * (input + 2) + 1); }

  // All but threads and who: step/input:384/hidden:256/members:1/rows:256/pairs:128/dtype:f32
  std::string name() const;

  // Of the dense formulas: 2 rows input hidden for each of z, dW1 and dX. 0 for pair loss and AdamW, which are not
  // products of matrices.
  double flops() const;

  // What one call must move if every array is touched once: X, parameters, rewards, their gradient and the pair list
  // are read, gradients and rewards written; a step reads X once although it needs it twice. AdamW reads parameter,
  // gradient and two moments and writes all but the gradient. Cache lines read only to be overwritten do not count.
  double bytes() const;
};

const std::vector<Workload>& workloads();       // of the CPU
const std::vector<Workload>& cuda_workloads();  // of a GPU

}  // namespace rewardhead::bench
