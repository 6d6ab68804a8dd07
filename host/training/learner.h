// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string>

#include "host/training/training_data.h"
#include "rewardhead/rewardhead.hpp"

namespace rewardhead::training {

// The part of training that a device does: it holds a head and AdamW's moments, and takes steps on batches of pairs.
// Everything else, the order of pairs too, is the Trainer's and the same on every device.
class Learner {
 public:
  virtual ~Learner() = default;

  // One step on these pairs of the data, by index, or on all of them in their order where none are named. A GPU's may
  // not have been taken when the call returns.
  virtual void step(std::span<const int64_t> pair_indices, const AdamwOptions& optimizer) = 0;

  struct Figures {
    double loss;           // mean over the pairs of these steps, each as its batch saw it, before that batch's update
    double gradient_norm;  // of the last step, before clipping
  };
  // Of the steps since the last call, at least one; waits for them.
  virtual Figures finish() = 0;

  // After finish(). References stay valid until the next call.
  virtual const Head& parameters() = 0;
  virtual const Head& first_moments() = 0;
  virtual const Head& second_moments() = 0;
  virtual int64_t steps() const = 0;  // since the first weights
  virtual void restore(const Head& parameters, const Head& first_moments, const Head& second_moments,
                       int64_t steps) = 0;

  // What, besides the options, the bits of results depend on: the instruction set, and on a GPU its name.
  virtual std::string machine() const = 0;
};

// Where `context` computes. `plan` is for RH_TRAIN and the largest batch; no finish() covers more than `steps` steps.
// Context and data must outlive the learner.
std::unique_ptr<Learner> make_learner(const Context& context, const TrainingData& data, const PlanOptions& plan,
                                      const Head& parameters, int64_t steps);

}  // namespace rewardhead::training
