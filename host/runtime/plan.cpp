// SPDX-License-Identifier: Apache-2.0
#include "host/runtime/plan.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "host/runtime/error.h"
#include "kernels/workspace.h"

using rewardhead::kernels::Carver;
using rewardhead::kernels::KernelTable;
using rewardhead::runtime::integer;
using rewardhead::runtime::refuse;
using rewardhead::runtime::require;
using rewardhead::runtime::require_range;

namespace {

constexpr int64_t kMaxRows = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxWidth = int64_t{1} << 24;
constexpr int64_t kMaxPairs = int64_t{1} << 40;
constexpr int64_t kMaxMembers = int64_t{1} << 16;
constexpr int64_t kMaxUnits = int64_t{1} << 30;  // hidden units of all members
constexpr uint32_t kAllOperations = RH_TRAIN | RH_INPUT_GRADIENT;

uint32_t with_implied(uint32_t operations) {
  if (operations & RH_INPUT_GRADIENT) operations |= RH_BACKWARD;
  if (operations & RH_BACKWARD) operations |= RH_FORWARD;
  return operations;
}

}  // namespace

rh_plan::rh_plan(const rh_context* owner, const rh_plan_options& options) : context(owner) {
  if (options.operations == 0 || options.operations & ~kAllOperations) {
    refuse("operations is " + std::to_string(options.operations) + "; expected one or more of the RH_ flags, " +
           std::to_string(kAllOperations) + " together");
  }
  operations = with_implied(options.operations);
  const bool head = operations != RH_PAIR_LOSS;
  require_range("rows", options.rows, int64_t{1}, kMaxRows);
  if (head) {
    require_range("input_dim", options.input_dim, int64_t{1}, kMaxWidth);
    require_range("hidden_dim", options.hidden_dim, int64_t{0}, kMaxWidth);
  }
  require_range("input_dtype", integer(options.input_dtype), 0, integer(RH_BF16));
  if (operations & RH_PAIR_LOSS) require_range("max_pairs", options.max_pairs, int64_t{1}, kMaxPairs);
  require_range("objective", integer(options.objective), 0, integer(RH_BRADLEY_TERRY));
  require_range("members", options.members, int64_t{0}, kMaxMembers);
  dtype = static_cast<rewardhead::kernels::Dtype>(options.input_dtype);
  shape = {options.rows,
           head ? options.input_dim : 0,
           head ? options.hidden_dim : 0,
           operations & RH_PAIR_LOSS ? options.max_pairs : 0,
           (operations & RH_INPUT_GRADIENT) != 0,
           std::max<int64_t>(options.members, 1)};
  require_range("members", shape.members, int64_t{1}, kMaxUnits / std::max<int64_t>(shape.hidden, 1));
  if (shape.members > 1 && shape.hidden == 0 && shape.input_gradient) {
    throw rewardhead::runtime::ApiError(RH_UNSUPPORTED, "members is " + std::to_string(shape.members) +
                                                            ", and RH_INPUT_GRADIENT serves one linear head only");
  }
  workspace_bytes = std::max<size_t>(carve(nullptr).bytes, RH_ALIGNMENT);
}

rh_plan::Workspace rh_plan::carve(void* base) const {
  const KernelTable& table = context->implementation.table();
  const int threads = context->threads();
  Carver carver(base);
  Workspace workspace;
  const bool keeps_mask = operations & RH_BACKWARD && shape.hidden;
  workspace.mask = carver.take<uint64_t>(
      keeps_mask ? rewardhead::kernels::mask_blocks(shape.rows) * shape.members * shape.hidden : 0);
  size_t scratch = 0;
  if (operations & RH_FORWARD) scratch = std::max(scratch, table.forward_workspace(shape, threads));
  if (operations & RH_PAIR_LOSS) scratch = std::max(scratch, table.pair_loss_workspace(shape, threads));
  if (operations & RH_BACKWARD) scratch = std::max(scratch, table.backward_workspace(shape, threads));
  if (operations & RH_PAIR_LOSS && operations & RH_BACKWARD && shape.hidden == 0) {
    scratch = std::max(scratch, table.linear_step_workspace(shape, threads));
  }
  if (operations & RH_OPTIMIZER) {
    scratch = std::max(scratch, table.sum_of_squares_workspace(std::max<int64_t>(shape.hidden, 1) * shape.input));
  }
  workspace.scratch = carver.take<char>(static_cast<int64_t>(scratch));
  workspace.bytes = carver.bytes();
  if (!keeps_mask) workspace.mask = nullptr;
  return workspace;
}

namespace rewardhead::runtime {
namespace {

void require_operation(const rh_plan& plan, uint32_t operation, const char* name) {
  if ((plan.operations & operation) != operation) refuse(std::string("the plan was made without ") + name);
}

void check_workspace(const rh_plan& plan, rh_workspace workspace) {
  require(workspace.data, "workspace.data is NULL");
  if (reinterpret_cast<uintptr_t>(workspace.data) % RH_ALIGNMENT) {
    refuse("workspace.data is not aligned to " + std::to_string(RH_ALIGNMENT) + " bytes");
  }
  if (workspace.bytes < plan.workspace_bytes) {
    refuse("workspace.bytes is " + std::to_string(workspace.bytes) + "; the plan needs " +
           std::to_string(plan.workspace_bytes));
  }
}

// A pointer that C callers may get wrong: null, or off its element's alignment. No string is made unless it is.
template <class T>
void check_pointer(const char* name, const T* pointer, const char* member = "") {
  if (!pointer) refuse(std::string(name) + member + " is NULL");
  if (reinterpret_cast<uintptr_t>(pointer) % alignof(T)) {
    refuse(std::string(name) + member + " is not aligned to its element");
  }
}

void check_rows(const rh_plan& plan, const char* name, int64_t rows) {
  require_range(name, rows, int64_t{1}, plan.shape.rows);
}

void check_matrix(const rh_plan& plan, const rh_matrix* x) {
  require(x, "x is NULL");
  require(x->data, "x->data is NULL");
  const size_t element = plan.dtype == kernels::Dtype::f32 ? 4 : 2;
  if (reinterpret_cast<uintptr_t>(x->data) % element) refuse("x->data is not aligned to its element");
  check_rows(plan, "x->rows", x->rows);
  if (x->row_stride < plan.shape.input) {
    refuse("x->row_stride is " + std::to_string(x->row_stride) + "; the plan's input_dim is " +
           std::to_string(plan.shape.input));
  }
}

void check_tensors(const rh_plan& plan, const char* name, const rh_tensors* tensors) {
  if (!tensors) refuse(std::string(name) + " is NULL");
  check_pointer(name, tensors->w1, "->w1");
  if (plan.shape.hidden == 0) {
    if (tensors->b1 || tensors->w2 || tensors->b2) {
      refuse(std::string(name) + " has b1, w2 or b2; a linear head (hidden_dim 0) has w1 only, the others are NULL");
    }
    return;
  }
  check_pointer(name, tensors->b1, "->b1");
  check_pointer(name, tensors->w2, "->w2");
  check_pointer(name, tensors->b2, "->b2");
}

// The first of `count` for which bad(i) is 1, or `count`. Blocks without a branch, so that the compiler takes several at
// a time: there may be millions of pairs.
template <class Bad>
int64_t first_bad(int64_t count, const Bad& bad) {
  constexpr int64_t kBlock = 1024;
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t end = std::min(count, first + kBlock);
    uint32_t any = 0;
    for (int64_t i = first; i < end; ++i) any |= bad(i);
    while (any) {
      if (bad(first)) return first;
      ++first;
    }
  }
  return count;
}

void check_values(const char* name, const float* values, int64_t count, float low, float high) {
  if (!values) return;
  check_pointer(name, values);
  const int64_t bad = first_bad(count, [&](int64_t i) -> uint32_t {
    return !((values[i] >= low) & (values[i] <= high));  // NaN fails both
  });
  if (bad == count) return;
  refuse(std::string(name) + "[" + std::to_string(bad) + "] is " + std::to_string(values[bad]) + "; expected " +
         (high == 1  ? "0 to 1"
          : low == 0 ? "a finite number that is not negative"
                     : "a finite number"));
}

void check_pairs(const rh_plan& plan, const rh_pairs* pairs, int64_t rows, double normalizer) {
  require(pairs, "pairs is NULL");
  require_range("pairs->count", pairs->count, int64_t{1}, plan.shape.pairs);
  if (normalizer != 0 && !(normalizer >= 1e-30 && normalizer <= 1e30)) {  // so that its reciprocal is an fp32 number
    refuse("normalizer is " + std::to_string(normalizer) + "; expected 1e-30 to 1e30, or 0 for the count");
  }
  if (!pairs->chosen != !pairs->rejected) refuse("only one of pairs->chosen and pairs->rejected is NULL");
  if (!pairs->chosen) {
    if (2 * pairs->count > rows) {
      refuse("pairs->count is " + std::to_string(pairs->count) + " pairs of adjacent rows, but there are " +
             std::to_string(rows) + " rows");
    }
  } else {
    check_pointer("pairs->chosen", pairs->chosen);
    check_pointer("pairs->rejected", pairs->rejected);
    const int64_t bad = first_bad(
        pairs->count, [all_chosen = pairs->chosen, all_rejected = pairs->rejected,
                       limit = static_cast<uint32_t>(rows)](int64_t i) -> uint32_t {
          const auto chosen = static_cast<uint32_t>(all_chosen[i]), rejected = static_cast<uint32_t>(all_rejected[i]);
          return (chosen >= limit) | (rejected >= limit) | (chosen == rejected);  // a negative one is large
        });
    if (bad < pairs->count) {
      const int64_t chosen = pairs->chosen[bad], rejected = pairs->rejected[bad];
      const std::string where = "[" + std::to_string(bad) + "] is ";
      if (chosen < 0 || chosen >= rows) {
        refuse("pairs->chosen" + where + std::to_string(chosen) + "; expected 0 to " + std::to_string(rows - 1));
      }
      if (rejected < 0 || rejected >= rows) {
        refuse("pairs->rejected" + where + std::to_string(rejected) + "; expected 0 to " + std::to_string(rows - 1));
      }
      refuse("pairs->rejected" + where + std::to_string(rejected) + ", the same row as pairs->chosen");
    }
  }
  constexpr float kLargest = std::numeric_limits<float>::max();
  check_values("pairs->margin", pairs->margin, pairs->count, -kLargest, kLargest);
  check_values("pairs->weight", pairs->weight, plan.shape.members * pairs->count, 0, kLargest);
  check_values("pairs->label", pairs->label, pairs->count, 0, 1);
}

void check_input_gradient(const rh_plan& plan, const float* input_gradient, int64_t stride) {
  if (!input_gradient) return;
  require_operation(plan, RH_INPUT_GRADIENT, "RH_INPUT_GRADIENT");
  check_pointer("input_gradient", input_gradient);
  if (stride < plan.shape.input) {
    refuse("input_gradient_stride is " + std::to_string(stride) + "; the plan's input_dim is " +
           std::to_string(plan.shape.input));
  }
}

// A struct that tells its own size, so that a program built against another version of it is refused.
template <class Arguments>
void check_arguments(const Arguments* arguments) {
  require(arguments, "arguments is NULL");
  if (arguments->struct_size != sizeof *arguments) {
    refuse("arguments->struct_size is " + std::to_string(arguments->struct_size) + "; expected " +
           std::to_string(sizeof *arguments));
  }
}

// What rh_loss_gradients and rh_train_step share.
void check_loss(const rh_plan& plan, const rh_loss_arguments& a) {
  check_matrix(plan, &a.x);
  check_pairs(plan, &a.pairs, a.x.rows, a.normalizer);
  check_tensors(plan, "parameters", &a.parameters);
  check_tensors(plan, "gradients", &a.gradients);
  check_pointer("rewards", a.rewards);
  check_pointer("reward_gradient", a.reward_gradient);
  check_pointer("loss", a.loss);
}

void check_adamw(const rh_adamw_options* options) {
  require(options, "options is NULL");
  if (options->struct_size != sizeof *options) {
    refuse("options->struct_size is " + std::to_string(options->struct_size) + "; expected " +
           std::to_string(sizeof *options));
  }
  const auto check = [](const char* name, double value, bool good, const char* expected) {
    if (!std::isfinite(value) || !good) {
      refuse(std::string(name) + " is " + std::to_string(value) + "; expected " + expected);
    }
  };
  const rh_adamw_options& o = *options;
  check("learning_rate", o.learning_rate, o.learning_rate >= 0, "a finite number that is not negative");
  check("beta1", o.beta1, o.beta1 >= 0 && o.beta1 < 1, "0 up to, but not including, 1");
  check("beta2", o.beta2, o.beta2 >= 0 && o.beta2 < 1, "0 up to, but not including, 1");
  check("epsilon", o.epsilon, o.epsilon >= 1e-30, "1e-30 or more, and finite");
  check("weight_decay", o.weight_decay, o.weight_decay >= 0, "a finite number that is not negative");
  check("clip_norm", o.clip_norm, o.clip_norm >= 0, "a positive finite number, or 0 for no clipping");
  require_range("step", o.step, int64_t{1}, std::numeric_limits<int64_t>::max());
}

// ---- what runs once everything is checked ----

kernels::HeadTensors<const float> readable(const rh_tensors& t) { return {t.w1, t.b1, t.w2, t.b2}; }
kernels::HeadTensors<float> writable(const rh_tensors& t) { return {t.w1, t.b1, t.w2, t.b2}; }

kernels::Matrix matrix(const rh_plan& plan, const rh_matrix& x) {
  return {x.data, plan.dtype, x.rows, plan.shape.input, x.row_stride};
}

// What waking the workers is worth: below this many units of work, each about a tenth of a nanosecond's, one thread is
// done before two have begun. A unit is an element read or written, or 16 multiply-adds.
constexpr int64_t kSmallWork = 1 << 17;

// The kernels of one execute on its share of the workspace. The linear head's members go one by one.
class Execution {
 public:
  Execution(const rh_plan& plan, rh_workspace workspace)
      : plan_(plan),
        table_(plan.context->implementation.table()),
        memory_(plan.carve(workspace.data)),
        loan_(plan.context->pool) {}

  void forward(const rh_matrix& x, const rh_tensors& parameters, float* rewards) {
    for_each_part([&](int64_t member, int64_t members) {
      table_.forward(forward_arguments(member, members, x, parameters, rewards), executor(head_work(x.rows)),
                     memory_.scratch);
    });
  }

  void pair_loss(const float* rewards, int64_t rows, const rh_pairs& pairs, double normalizer, float* loss,
                 float* reward_gradient) {
    for (int64_t member = 0; member < plan_.shape.members; ++member) {
      table_.pair_loss(pair_arguments(member, rewards, rows, pairs, normalizer, loss, reward_gradient),
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
            pair_arguments(member, a.rewards, a.x.rows, a.pairs, a.normalizer, a.loss, a.reward_gradient),
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
    if (o.clip_norm == 0 && !gradient_norm) return update(0, plan_.shape.members, 1);
    for (int64_t member = 0; member < plan_.shape.members; ++member) {
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
  kernels::ForwardArguments forward_arguments(int64_t member, int64_t members, const rh_matrix& x,
                                              const rh_tensors& parameters, float* rewards) const {
    return {matrix(plan_, x), hidden(), readable(parameters).member(member, hidden(), input()),
            rewards + member * x.rows, memory_.mask, members, plan_.shape.rows};
  }
  kernels::PairLossArguments pair_arguments(int64_t member, const float* rewards, int64_t rows, const rh_pairs& pairs,
                                            double normalizer, float* loss, float* reward_gradient) const {
    return {rewards + member * rows, rows, pairs.count, pairs.chosen, pairs.rejected, pairs.margin,
            pairs.weight ? pairs.weight + member * pairs.count : nullptr, pairs.label,
            normalizer == 0 ? static_cast<double>(pairs.count) : normalizer, loss + member,
            reward_gradient ? reward_gradient + member * rows : nullptr};
  }
  kernels::BackwardArguments backward_arguments(int64_t member, int64_t members, const rh_matrix& x,
                                                const rh_tensors& parameters, const float* reward_gradient,
                                                const rh_tensors& gradients, float* input_gradient,
                                                int64_t input_gradient_stride) const {
    return {matrix(plan_, x), hidden(), readable(parameters).member(member, hidden(), input()), memory_.mask,
            reward_gradient + member * x.rows, writable(gradients).member(member, hidden(), input()), input_gradient,
            input_gradient_stride, members};
  }
  int64_t hidden() const { return plan_.shape.hidden; }
  int64_t input() const { return plan_.shape.input; }

  // part(first member, members)
  template <class Part>
  void for_each_part(const Part& part) const {
    const int64_t members = plan_.shape.members;
    const int64_t step = hidden() ? members : 1;
    for (int64_t member = 0; member < members; member += step) part(member, step);
  }

  // Of one pass of a head over X.
  int64_t head_work(int64_t rows) const {
    return input() * (rows + plan_.shape.members * hidden()) + rows * input() * plan_.shape.members * hidden() / 16;
  }
  kernels::Executor executor(int64_t work) {
    if (work < kSmallWork) return serial_executor();
    return plan_.context->executor ? *plan_.context->executor : loan_.executor();
  }

  const rh_plan& plan_;
  const KernelTable& table_;
  rh_plan::Workspace memory_;
  ThreadPool::Loan loan_;
};

}  // namespace

void forward(const rh_plan& plan, const rh_matrix* x, const rh_tensors* parameters, float* rewards,
             rh_workspace workspace) {
  require_operation(plan, RH_FORWARD, "RH_FORWARD");
  check_matrix(plan, x);
  check_tensors(plan, "parameters", parameters);
  check_pointer("rewards", rewards);
  check_workspace(plan, workspace);
  Execution(plan, workspace).forward(*x, *parameters, rewards);
}

void pair_loss(const rh_plan& plan, const float* rewards, int64_t rows, const rh_pairs* pairs, double normalizer,
               float* loss, float* reward_gradient, rh_workspace workspace) {
  require_operation(plan, RH_PAIR_LOSS, "RH_PAIR_LOSS");
  check_pointer("rewards", rewards);
  check_rows(plan, "rows", rows);
  check_pairs(plan, pairs, rows, normalizer);
  check_pointer("loss", loss);
  if (reward_gradient) check_pointer("reward_gradient", reward_gradient);
  check_workspace(plan, workspace);
  Execution(plan, workspace).pair_loss(rewards, rows, *pairs, normalizer, loss, reward_gradient);
}

void backward(const rh_plan& plan, const rh_matrix* x, const rh_tensors* parameters, const float* reward_gradient,
              const rh_tensors* gradients, float* input_gradient, int64_t input_gradient_stride,
              rh_workspace workspace) {
  require_operation(plan, RH_BACKWARD, "RH_BACKWARD");
  check_matrix(plan, x);
  check_tensors(plan, "parameters", parameters);
  check_pointer("reward_gradient", reward_gradient);
  check_tensors(plan, "gradients", gradients);
  check_input_gradient(plan, input_gradient, input_gradient_stride);
  check_workspace(plan, workspace);
  Execution(plan, workspace)
      .backward(*x, *parameters, reward_gradient, *gradients, input_gradient, input_gradient_stride);
}

void adamw(const rh_plan& plan, const rh_adamw_options* options, const rh_tensors* parameters,
           const rh_tensors* gradients, const rh_tensors* first_moments, const rh_tensors* second_moments,
           float* gradient_norm, rh_workspace workspace) {
  require_operation(plan, RH_OPTIMIZER, "RH_OPTIMIZER");
  check_adamw(options);
  check_tensors(plan, "parameters", parameters);
  check_tensors(plan, "gradients", gradients);
  check_tensors(plan, "first_moments", first_moments);
  check_tensors(plan, "second_moments", second_moments);
  if (gradient_norm) check_pointer("gradient_norm", gradient_norm);
  check_workspace(plan, workspace);
  Execution(plan, workspace).adamw(*options, *parameters, *gradients, *first_moments, *second_moments, gradient_norm);
}

void loss_gradients(const rh_plan& plan, const rh_loss_arguments* arguments, rh_workspace workspace) {
  require_operation(plan, RH_PAIR_LOSS | RH_BACKWARD, "RH_PAIR_LOSS and RH_BACKWARD");
  check_arguments(arguments);
  const rh_loss_arguments& a = *arguments;
  check_loss(plan, a);
  check_input_gradient(plan, a.input_gradient, a.input_gradient_stride);
  check_workspace(plan, workspace);
  Execution(plan, workspace).loss_gradients(a);
}

void train_step(const rh_plan& plan, const rh_train_arguments* arguments, rh_workspace workspace) {
  require_operation(plan, RH_TRAIN, "all of RH_TRAIN");
  check_arguments(arguments);
  const rh_train_arguments& a = *arguments;
  const rh_loss_arguments loss = {sizeof loss,  a.x,         a.pairs,   a.normalizer,
                                  a.parameters, a.gradients, a.rewards, a.reward_gradient,
                                  a.loss,       nullptr,     0};
  check_loss(plan, loss);
  check_adamw(&a.optimizer);
  check_tensors(plan, "first_moments", &a.first_moments);
  check_tensors(plan, "second_moments", &a.second_moments);
  if (a.gradient_norm) check_pointer("gradient_norm", a.gradient_norm);
  check_workspace(plan, workspace);
  Execution run(plan, workspace);
  run.loss_gradients(loss);
  run.adamw(a.optimizer, a.parameters, a.gradients, a.first_moments, a.second_moments, a.gradient_norm);
}

}  // namespace rewardhead::runtime
