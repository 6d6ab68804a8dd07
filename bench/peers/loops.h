// SPDX-License-Identifier: Apache-2.0
//
// What a user of a matrix library writes around the products, as plain loops for the compiler to vectorise. `threads`
// is how many OpenMP threads share a loop. Columns of all members stand side by side: z is [rows, members * hidden].
#pragma once

#include <algorithm>
#include <cstdint>

#include "bench/peers/peer.h"

namespace rewardhead::bench {

// The rows of a block, such that what is stored only for a while stays in cache: the activations of a MLP that only
// scores, and rows of bf16 widened to fp32. Else all rows.
int64_t rows_per_block(const Workload& workload);

// X as fp32, in blocks of rows. fp32 rows are used where they lie. bf16 rows are widened into a buffer, once for the
// forward and, unless one block holds all rows, again for the backward.
class Rows {
 public:
  Rows(const Problem& problem, int64_t per_block, int threads);

  int64_t per_block() const { return per_block_; }
  const float* forward(int64_t begin, int64_t count);
  const float* backward(int64_t begin, int64_t count);

  // body(begin, count) for each block, in ascending order.
  template <class Body>
  void for_each_block(const Body& body) const {
    for (int64_t begin = 0; begin < rows_; begin += per_block_) body(begin, std::min(per_block_, rows_ - begin));
  }

 private:
  const Problem& problem_;
  int threads_;
  int64_t rows_;
  int64_t per_block_;
  Array<float> wide_;
};

// a = relu(z + b1) in place, or a = z where b1 is null, and rewards[m, begin + i] = a w2 + b2 of `count` rows.
void activate_and_score(const Workload& workload, const rh_tensors& parameters, const float* b1, float* z,
                        int64_t begin, int64_t count, float* rewards, int threads);

// dz = (a > 0) dr w2 of `count` rows from `begin`; db1, dw2 and db2 are set in the first block and added to in others.
void hidden_gradients(const Workload& workload, const rh_tensors& parameters, const float* a,
                      const float* reward_gradient, int64_t begin, int64_t count, float* dz,
                      const rh_tensors& gradients, int threads);

// Loss and the rewards' gradient. One thread: pairs of a list meet in their rows.
void composed_pair_loss(const Problem& problem, Results& results);

}  // namespace rewardhead::bench
