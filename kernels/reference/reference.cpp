// SPDX-License-Identifier: Apache-2.0
//
// The reference behind the kernel table: the same plain loops on one thread.
#include "kernels/reference/reference.h"

#include "kernels/workspace.h"

namespace rewardhead::kernels {
namespace {

void forward(const ForwardArguments& a, const Executor&, void*) {
  with_element(a.x.dtype, [&](auto* element) {
    const auto* x = static_cast<decltype(element)>(a.x.data);
    for (int64_t member = 0; member < a.members; ++member) {
      reference::forward(x, a.x.stride, a.x.rows, a.x.columns, a.hidden, a.head.member(member, a.hidden, a.x.columns),
                         a.rewards + member * a.x.rows, a.mask ? a.mask + member * a.hidden : nullptr, a.members);
    }
  });
}

void pair_loss(const PairLossArguments& a, const Executor&, void* workspace) {
  a.loss[0] = static_cast<float>(reference::pair_loss(a.rewards, a.rows, a.pairs, a.chosen, a.rejected, a.margin,
                                                      a.weight, a.label, a.normalizer, a.reward_gradient,
                                                      Carver(workspace).take<double>(a.rows)));
}

void backward(const BackwardArguments& a, const Executor&, void* workspace) {
  double* sums = Carver(workspace).take<double>(a.x.columns);
  for (int64_t member = 0; member < a.members; ++member) {
    const HeadTensors<const float> head = a.head.member(member, a.hidden, a.x.columns);
    const uint64_t* mask = a.mask + member * a.hidden;
    const float* reward_gradient = a.reward_gradient + member * a.x.rows;
    with_element(a.x.dtype, [&](auto* element) {
      const auto* x = static_cast<decltype(element)>(a.x.data);
      reference::parameter_gradients(x, a.x.stride, a.x.rows, a.x.columns, a.hidden, head, mask, reward_gradient,
                                     a.gradient.member(member, a.hidden, a.x.columns), sums, a.members);
    });
    if (a.input_gradient) {
      reference::input_gradient(a.x.rows, a.x.columns, a.hidden, head, mask, reward_gradient, a.input_gradient,
                                a.input_gradient_stride, sums, a.members, member > 0);
    }
  }
}

template <int64_t Shape::*count>
size_t doubles(const Shape& shape, int) {
  Carver carver(nullptr);
  carver.take<double>(shape.*count);
  return carver.bytes();
}

}  // namespace

const KernelTable& reference_table() {
  static constexpr KernelTable table = {
      .name = "reference",
      .forward_workspace = [](const Shape&, int) -> size_t { return 0; },
      .forward = forward,
      .pair_loss_workspace = doubles<&Shape::rows>,
      .pair_loss = pair_loss,
      .backward_workspace = doubles<&Shape::input>,
      .backward = backward,
      .linear_step_workspace =
          [](const Shape& shape, int threads) {
            return std::max(doubles<&Shape::rows>(shape, threads), doubles<&Shape::input>(shape, threads));
          },
      .linear_step =
          [](const ForwardArguments& f, const PairLossArguments& p, const BackwardArguments& b,
             const Executor& executor, void* workspace) {
            forward(f, executor, workspace);
            pair_loss(p, executor, workspace);
            backward(b, executor, workspace);
          },
      .sum_of_squares_workspace = [](int64_t) -> size_t { return 0; },
      .sum_of_squares = [](const float* values, int64_t count, const Executor&,
                           void*) { return reference::sum_of_squares(values, count); },
      .adamw = [](const AdamwArguments& arguments, const Executor&) { reference::adamw(arguments); },
  };
  return table;
}

}  // namespace rewardhead::kernels
