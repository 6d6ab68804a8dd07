// SPDX-License-Identifier: Apache-2.0
//
// What runs once everything is checked: one execute, on the CPU or on a GPU.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "host/runtime/plan.h"

namespace rewardhead::runtime {

inline kernels::HeadTensors<const float> readable(const rh_tensors& t) { return {t.w1, t.b1, t.w2, t.b2}; }
inline kernels::HeadTensors<float> writable(const rh_tensors& t) { return {t.w1, t.b1, t.w2, t.b2}; }

inline kernels::Matrix matrix(const rh_plan& plan, const rh_matrix& x) {
  return {x.data, plan.dtype, x.rows, plan.shape.input, x.row_stride};
}

// The arguments of the kernels of one execute, on its share of the workspace, of `members` members from `member` on.
class Execution {
 protected:
  Execution(const rh_plan& plan, rh_workspace workspace) : plan_(plan), memory_(plan.carve(workspace.data)) {}

  kernels::ForwardArguments forward_arguments(int64_t member, int64_t members, const rh_matrix& x,
                                              const rh_tensors& parameters, float* rewards) const {
    return {matrix(plan_, x), hidden(), readable(parameters).member(member, hidden(), input()),
            rewards + member * x.rows, memory_.mask, members, plan_.shape.rows, memory_.activations};
  }
  kernels::PairLossArguments pair_arguments(int64_t member, int64_t members, const float* rewards, int64_t rows,
                                            const rh_pairs& pairs, double normalizer, float* loss,
                                            float* reward_gradient) const {
    return {rewards + member * rows, rows, pairs.count, pairs.chosen, pairs.rejected, pairs.margin,
            pairs.weight ? pairs.weight + member * pairs.count : nullptr, pairs.label,
            normalizer == 0 ? static_cast<double>(pairs.count) : normalizer, loss + member,
            reward_gradient ? reward_gradient + member * rows : nullptr, members};
  }
  kernels::BackwardArguments backward_arguments(int64_t member, int64_t members, const rh_matrix& x,
                                                const rh_tensors& parameters, const float* reward_gradient,
                                                const rh_tensors& gradients, float* input_gradient,
                                                int64_t input_gradient_stride) const {
    return {matrix(plan_, x), hidden(), readable(parameters).member(member, hidden(), input()), memory_.mask,
            reward_gradient + member * x.rows, writable(gradients).member(member, hidden(), input()), input_gradient,
            input_gradient_stride, members, plan_.shape.rows, memory_.activations};
  }
  int64_t hidden() const { return plan_.shape.hidden; }
  int64_t input() const { return plan_.shape.input; }
  int64_t members() const { return plan_.shape.members; }

  const rh_plan& plan_;
  rh_plan::Workspace memory_;
};

// What waking the workers is worth: below this many units of work, each about a tenth of a nanosecond's, one thread is
// done before two have begun. A unit is an element read or written, or 16 multiply-adds.
inline constexpr int64_t kSmallWork = 1 << 16;

class CpuExecution : Execution {
 public:
  CpuExecution(const rh_plan& plan, rh_workspace workspace)
      : Execution(plan, workspace), table_(plan.context->implementation->table()), loan_(plan.context->pool) {}

  void forward(const rh_matrix& x, const rh_tensors& parameters, float* rewards) {
    for_each_part([&](int64_t member, int64_t members) {
      table_.forward(forward_arguments(member, members, x, parameters, rewards), executor(head_work(x.rows)),
                     memory_.scratch);
    });
  }

  void pair_loss(const float* rewards, int64_t rows, const rh_pairs& pairs, double normalizer, float* loss,
                 float* reward_gradient) {
    for (int64_t member = 0; member < members(); ++member) {
      table_.pair_loss(pair_arguments(member, 1, rewards, rows, pairs, normalizer, loss, reward_gradient),
                       executor(rows + 8 * pairs.count), memory_.scratch);
    }
  }

  void backward(const rh_matrix& x, const rh_tensors& parameters, const float* reward_gradient,
                const rh_tensors& gradients, float* input_gradient, int64_t input_gradient_stride) {
    for_each_part([&](int64_t member, int64_t members) {
      table_.backward(backward_arguments(member, members, x, parameters, reward_gradient, gradients, input_gradient,
                                         input_gradient_stride),
                      executor((input_gradient ? 2 : 1) * head_work(x.rows)), memory_.scratch);
    });
  }

  void loss_gradients(const rh_loss_arguments& a) {
    if (hidden() == 0 && !a.pairs.chosen) {  // one pass over X
      for_each_part([&](int64_t member, int64_t members) {
        table_.linear_step(
            forward_arguments(member, members, a.x, a.parameters, a.rewards),
            pair_arguments(member, members, a.rewards, a.x.rows, a.pairs, a.normalizer, a.loss, a.reward_gradient),
            backward_arguments(member, members, a.x, a.parameters, a.reward_gradient, a.gradients, a.input_gradient,
                               a.input_gradient_stride),
            executor((a.input_gradient ? 3 : 2) * head_work(a.x.rows)), memory_.scratch);
      });
      return;
    }
    forward(a.x, a.parameters, a.rewards);
    pair_loss(a.rewards, a.x.rows, a.pairs, a.normalizer, a.loss, a.reward_gradient);
    backward(a.x, a.parameters, a.reward_gradient, a.gradients, a.input_gradient, a.input_gradient_stride);
  }

  void adamw(const rh_adamw_options& o, const rh_tensors& parameters, const rh_tensors& gradients,
             const rh_tensors& first_moments, const rh_tensors& second_moments, float* gradient_norm) {
    const struct {
      float* rh_tensors::*tensor;
      int64_t count;  // of one member
    } parts[] = {{&rh_tensors::w1, std::max<int64_t>(hidden(), 1) * input()},
                 {&rh_tensors::b1, hidden()},
                 {&rh_tensors::w2, hidden()},
                 {&rh_tensors::b2, hidden() ? 1 : 0}};
    const auto update = [&](int64_t member, int64_t members, double scale) {
      for (const auto& part : parts) {
        if (part.count == 0) continue;
        const int64_t first = member * part.count, count = members * part.count;
        table_.adamw({count, parameters.*part.tensor + first, gradients.*part.tensor + first,
                      first_moments.*part.tensor + first, second_moments.*part.tensor + first, o.learning_rate, o.beta1,
                      o.beta2, o.epsilon, o.weight_decay, scale, o.step},
                     executor(4 * count));
      }
    };
    if (o.clip_norm == 0 && !gradient_norm) return update(0, members(), 1);
    for (int64_t member = 0; member < members(); ++member) {
      double squares = 0;
      for (const auto& part : parts) {
        if (part.count == 0) continue;
        squares += table_.sum_of_squares(gradients.*part.tensor + member * part.count, part.count, executor(part.count),
                                         memory_.scratch);
      }
      const double norm = std::sqrt(squares);
      if (gradient_norm) gradient_norm[member] = static_cast<float>(norm);
      // As torch.nn.utils.clip_grad_norm_: the 1e-6 keeps a zero norm from dividing; a NaN norm stays NaN.
      const bool clips = o.clip_norm > 0 && !(norm + 1e-6 <= o.clip_norm);
      update(member, 1, clips ? o.clip_norm / (norm + 1e-6) : 1);
    }
  }

 private:
  // part(first member, members): the linear head's members go one by one.
  template <class Part>
  void for_each_part(const Part& part) const {
    const int64_t step = hidden() ? members() : 1;
    for (int64_t member = 0; member < members(); member += step) part(member, step);
  }
  // Of one pass of a head over X.
  int64_t head_work(int64_t rows) const {
    return input() * (rows + members() * hidden()) + rows * input() * members() * hidden() / 16;
  }
  kernels::Executor executor(int64_t work) {
    if (work < kSmallWork) return serial_executor();
    return plan_.context->executor ? *plan_.context->executor : loan_.executor();
  }

  const kernels::KernelTable& table_;
  ThreadPool::Loan loan_;
};

// Enqueues and returns. All members at once.
class CudaExecution : Execution {
 public:
  CudaExecution(const rh_plan& plan, rh_workspace workspace)
      : Execution(plan, workspace), kernels_(*plan.cuda, memory_.scratch) {}

  void forward(const rh_matrix& x, const rh_tensors& parameters, float* rewards) {
    kernels_.forward(forward_arguments(0, members(), x, parameters, rewards));
  }

  void pair_loss(const float* rewards, int64_t rows, const rh_pairs& pairs, double normalizer, float* loss,
                 float* reward_gradient) {
    kernels_.clear(memory_.bad_pairs);
    kernels_.pair_loss(pair_arguments(0, members(), rewards, rows, pairs, normalizer, loss, reward_gradient),
                       memory_.bad_pairs);
  }

  void backward(const rh_matrix& x, const rh_tensors& parameters, const float* reward_gradient,
                const rh_tensors& gradients, float* input_gradient, int64_t input_gradient_stride) {
    kernels_.backward(backward_arguments(0, members(), x, parameters, reward_gradient, gradients, input_gradient,
                                         input_gradient_stride));
  }

  void loss_gradients(const rh_loss_arguments& a) {
    if (hidden() == 0 && !a.pairs.chosen) {  // one pass over X; adjacent rows make no bad pair
      kernels_.clear(memory_.bad_pairs);
      kernels_.linear_step(
          forward_arguments(0, members(), a.x, a.parameters, a.rewards),
          pair_arguments(0, members(), a.rewards, a.x.rows, a.pairs, a.normalizer, a.loss, a.reward_gradient),
          backward_arguments(0, members(), a.x, a.parameters, a.reward_gradient, a.gradients, a.input_gradient,
                             a.input_gradient_stride));
      return;
    }
    forward(a.x, a.parameters, a.rewards);
    pair_loss(a.rewards, a.x.rows, a.pairs, a.normalizer, a.loss, a.reward_gradient);
    backward(a.x, a.parameters, a.reward_gradient, a.gradients, a.input_gradient, a.input_gradient_stride);
  }

  void adamw(const rh_adamw_options& o, const rh_tensors& parameters, const rh_tensors& gradients,
             const rh_tensors& first_moments, const rh_tensors& second_moments, float* gradient_norm) {
    kernels_.adamw(o, parameters, gradients, first_moments, second_moments, gradient_norm);
  }

 private:
  CudaKernels kernels_;
};

// run(execution) on the plan's device.
template <class Run>
void execute(const rh_plan& plan, rh_workspace workspace, const Run& run) {
  if constexpr (kHasCuda) {
    if (plan.context->cuda) {
      CudaExecution execution(plan, workspace);
      return run(execution);
    }
  }
  CpuExecution execution(plan, workspace);
  run(execution);
}

}  // namespace rewardhead::runtime
