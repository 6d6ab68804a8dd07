// SPDX-License-Identifier: Apache-2.0
//
// Who computes a workload: this library or a peer. A peer is what a competent user would compose from that library:
// activations stored, gradients by matrix products, everything that can be made before the timed call made before it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/problem.h"
#include "rewardhead/rewardhead.hpp"

namespace rewardhead::bench {

// What a call writes, and before it the operands that are not part of the problem: `rewards` for the pair loss alone,
// `reward_gradient` for the backward alone, all of the optimiser's tensors. What the operation does not have is empty.
struct Results {
  explicit Results(const Problem& problem);

  Array<float> rewards, reward_gradient;  // [members, rows]
  Array<float> loss;                      // [members]
  Tensors gradients;
  Array<float> input_gradient;                        // [rows, input]
  Tensors parameters, first_moments, second_moments;  // of AdamW
};

// AdamW's constants, for all.
inline constexpr float kLearningRate = 1e-3f, kBeta1 = 0.9f, kBeta2 = 0.999f, kEpsilon = 1e-8f, kWeightDecay = 0.01f;

class Peer {
 public:
  Peer(const Problem& the_problem, int the_threads)
      : problem(the_problem), workload(problem.workload), threads(the_threads), results(problem) {}
  virtual ~Peer() = default;

  void run() {
    switch (workload.operation) {
      case Operation::forward:
        return forward();
      case Operation::backward:
        return backward();
      case Operation::pair_loss:
        return pair_loss();
      case Operation::step:
      case Operation::step_dx:
        return step();
      case Operation::adamw:
        return adamw();
      case Operation::backward_dx:
        return backward();
      case Operation::train:
        return train();
    }
  }
  virtual void set_threads() {}  // where the library has one setting for the process; before run() and its like
  virtual void forward() = 0;
  virtual void collect() {}  // results in a layout of the library's own go to `results`; not timed

  const Problem& problem;
  const Workload& workload;
  const int threads;
  Results results;

 protected:
  virtual void pair_loss() = 0;
  virtual void backward() = 0;  // with dX, if results.input_gradient is not empty
  virtual void adamw() = 0;
  virtual void step() {
    forward();
    pair_loss();
    backward();
  }
  virtual void train() {
    step();
    adamw();
  }
};

// Of the plan with which this library computes it, on any device.
PlanOptions plan_options(const Workload& workload);

// "", or what differs by more than rounding.
std::string difference(const Results& ours, const Results& theirs);

struct PeerEntry {
  std::string name;         // as in the benchmarks' names
  std::string description;  // with version and kind of threads
  bool (*supports)(const Workload& workload);
  std::unique_ptr<Peer> (*make)(const Problem& problem, int threads);
};

PeerEntry ours_entry();
PeerEntry openblas_entry();
PeerEntry onednn_entry();
PeerEntry eigen_entry();

}  // namespace rewardhead::bench
