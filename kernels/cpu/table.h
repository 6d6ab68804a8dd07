// SPDX-License-Identifier: Apache-2.0
//
// The kernel table of one vector type. Everything below kernels/cpu has internal linkage: a function compiled for one
// instruction set must not be merged with its namesake compiled for another.
#pragma once

#include "kernels/cpu/adamw.h"
#include "kernels/cpu/backward.h"
#include "kernels/cpu/forward.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/pair_loss.h"

namespace rewardhead::kernels {
namespace {

template <class V>
void forward(const ForwardArguments& arguments, const Executor& executor, void* workspace) {
  if (arguments.hidden) return mlp_forward<V>(arguments, executor, workspace);
  linear_forward<V>(arguments, executor);
}

template <class V>
void backward(const BackwardArguments& arguments, const Executor& executor, void* workspace) {
  if (arguments.hidden) return mlp_backward<V>(arguments, executor, workspace);
  linear_backward<V>(arguments, executor, workspace);
}

template <class V>
constexpr KernelTable make_table() {
  return {
      .name = V::name,
      .forward_workspace =
          [](const Shape& shape, int threads) {
            return shape.hidden ? ForwardScratch::carve(nullptr, shape, threads).bytes : 0;
          },
      .forward = forward<V>,
      .pair_loss_workspace = [](const Shape& shape,
                                int) { return PairLossScratch::carve(nullptr, shape.rows, shape.pairs).bytes; },
      .pair_loss = pair_loss<V>,
      .backward_workspace =
          [](const Shape& shape, int threads) {
            return shape.hidden ? BackwardScratch::carve(nullptr, shape, threads).bytes
                                : LinearScratch::carve(nullptr, shape.rows, shape.input).bytes;
          },
      .backward = backward<V>,
      .linear_step_workspace = [](const Shape& shape, int) { return LinearStepScratch::bytes(shape); },
      .linear_step = linear_step<V>,
      .sum_of_squares_workspace = sum_of_squares_workspace,
      .sum_of_squares = sum_of_squares<V>,
      .adamw = adamw<V>,
  };
}

}  // namespace
}  // namespace rewardhead::kernels
