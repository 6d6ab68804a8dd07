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
  dtype = static_cast<rewardhead::kernels::Dtype>(options.input_dtype);
  shape = {options.rows, head ? options.input_dim : 0, head ? options.hidden_dim : 0,
           operations & RH_PAIR_LOSS ? options.max_pairs : 0, (operations & RH_INPUT_GRADIENT) != 0};
  workspace_bytes = std::max<size_t>(carve(nullptr).bytes, RH_ALIGNMENT);
}

rh_plan::Workspace rh_plan::carve(void* base) const {
  const KernelTable& table = context->implementation.table();
  const int threads = context->pool.threads();
  Carver carver(base);
  Workspace workspace;
  const bool keeps_mask = operations & RH_BACKWARD && shape.hidden;
  workspace.mask = carver.take<uint64_t>(keeps_mask ? rewardhead::kernels::mask_blocks(shape.rows) * shape.hidden : 0);
  size_t scratch = 0;
  if (operations & RH_FORWARD) scratch = std::max(scratch, table.forward_workspace(shape, threads));
  if (operations & RH_PAIR_LOSS) scratch = std::max(scratch, table.pair_loss_workspace(shape, threads));
  if (operations & RH_BACKWARD) scratch = std::max(scratch, table.backward_workspace(shape, threads));
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

void check_values(const char* name, const float* values, int64_t count, float low, float high) {
  if (!values) return;
  check_pointer(name, values);
  for (int64_t i = 0; i < count; ++i) {
    if (values[i] >= low && values[i] <= high) continue;  // NaN fails both
    refuse(std::string(name) + "[" + std::to_string(i) + "] is " + std::to_string(values[i]) + "; expected " +
           (high == 1  ? "0 to 1"
            : low == 0 ? "a finite number that is not negative"
                       : "a finite number"));
  }
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
    for (int64_t i = 0; i < pairs->count; ++i) {
      const int64_t chosen = pairs->chosen[i], rejected = pairs->rejected[i];
      if (chosen >= 0 && chosen < rows && rejected >= 0 && rejected < rows && chosen != rejected) continue;
      const std::string where = "[" + std::to_string(i) + "] is ";
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
  check_values("pairs->weight", pairs->weight, pairs->count, 0, kLargest);
  check_values("pairs->label", pairs->label, pairs->count, 0, 1);
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

// The kernels of one execute on its share of the workspace.
struct Execution {
  Execution(const rh_plan& p, rh_workspace workspace)
      : plan(p),
        table(p.context->implementation.table()),
        memory(p.carve(workspace.data)),
        loan(p.context->pool),
        executor(loan.executor()) {}

  void forward(const rh_matrix& x, const rh_tensors& parameters, float* rewards) {
    table.forward({matrix(plan, x), plan.shape.hidden, readable(parameters), rewards, memory.mask}, executor,
                  memory.scratch);
  }

  void pair_loss(const float* rewards, int64_t rows, const rh_pairs& pairs, double normalizer, float* loss,
                 float* reward_gradient) {
    if (normalizer == 0) normalizer = static_cast<double>(pairs.count);
    table.pair_loss({rewards, rows, pairs.count, pairs.chosen, pairs.rejected, pairs.margin, pairs.weight, pairs.label,
                     normalizer, loss, reward_gradient},
                    executor, memory.scratch);
  }

  void backward(const rh_matrix& x, const rh_tensors& parameters, const float* reward_gradient,
                const rh_tensors& gradients, float* input_gradient, int64_t input_gradient_stride) {
    table.backward({matrix(plan, x), plan.shape.hidden, readable(parameters), memory.mask, reward_gradient,
                    writable(gradients), input_gradient, input_gradient_stride},
                   executor, memory.scratch);
  }

  void adamw(const rh_adamw_options& o, const rh_tensors& parameters, const rh_tensors& gradients,
             const rh_tensors& first_moments, const rh_tensors& second_moments, float* gradient_norm) {
    const int64_t hidden = plan.shape.hidden;
    const struct {
      float* rh_tensors::*tensor;
      int64_t count;
    } parts[] = {{&rh_tensors::w1, std::max<int64_t>(hidden, 1) * plan.shape.input},
                 {&rh_tensors::b1, hidden},
                 {&rh_tensors::w2, hidden},
                 {&rh_tensors::b2, hidden ? 1 : 0}};
    double scale = 1;
    if (o.clip_norm > 0 || gradient_norm) {
      double squares = 0;
      for (const auto& part : parts) {
        squares += table.sum_of_squares(gradients.*part.tensor, part.count, executor, memory.scratch);
      }
      const double norm = std::sqrt(squares);
      if (gradient_norm) *gradient_norm = static_cast<float>(norm);
      // As torch.nn.utils.clip_grad_norm_: the 1e-6 keeps a zero norm from dividing; a NaN norm stays NaN.
      if (o.clip_norm > 0 && !(norm + 1e-6 <= o.clip_norm)) scale = o.clip_norm / (norm + 1e-6);
    }
    for (const auto& part : parts) {
      table.adamw(
          {part.count, parameters.*part.tensor, gradients.*part.tensor, first_moments.*part.tensor,
           second_moments.*part.tensor, o.learning_rate, o.beta1, o.beta2, o.epsilon, o.weight_decay, scale, o.step},
          executor);
    }
  }

  const rh_plan& plan;
  const KernelTable& table;
  rh_plan::Workspace memory;
  ThreadPool::Loan loan;
  kernels::Executor executor;
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
  if (input_gradient) {
    require_operation(plan, RH_INPUT_GRADIENT, "RH_INPUT_GRADIENT");
    check_pointer("input_gradient", input_gradient);
    if (input_gradient_stride < plan.shape.input) {
      refuse("input_gradient_stride is " + std::to_string(input_gradient_stride) + "; the plan's input_dim is " +
             std::to_string(plan.shape.input));
    }
  }
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

void train_step(const rh_plan& plan, const rh_train_arguments* arguments, rh_workspace workspace) {
  require_operation(plan, RH_TRAIN, "all of RH_TRAIN");
  require(arguments, "arguments is NULL");
  const rh_train_arguments& a = *arguments;
  if (a.struct_size != sizeof a) {
    refuse("arguments->struct_size is " + std::to_string(a.struct_size) + "; expected " + std::to_string(sizeof a));
  }
  check_matrix(plan, &a.x);
  check_pairs(plan, &a.pairs, a.x.rows, a.normalizer);
  check_adamw(&a.optimizer);
  check_tensors(plan, "parameters", &a.parameters);
  check_tensors(plan, "gradients", &a.gradients);
  check_tensors(plan, "first_moments", &a.first_moments);
  check_tensors(plan, "second_moments", &a.second_moments);
  check_pointer("rewards", a.rewards);
  check_pointer("reward_gradient", a.reward_gradient);
  check_pointer("loss", a.loss);
  if (a.gradient_norm) check_pointer("gradient_norm", a.gradient_norm);
  check_workspace(plan, workspace);
  Execution run(plan, workspace);
  run.forward(a.x, a.parameters, a.rewards);
  run.pair_loss(a.rewards, a.x.rows, a.pairs, a.normalizer, a.loss, a.reward_gradient);
  run.backward(a.x, a.parameters, a.reward_gradient, a.gradients, nullptr, 0);
  run.adamw(a.optimizer, a.parameters, a.gradients, a.first_moments, a.second_moments, a.gradient_norm);
}

}  // namespace rewardhead::runtime
