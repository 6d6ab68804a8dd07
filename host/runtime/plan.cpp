// SPDX-License-Identifier: Apache-2.0
#include "host/runtime/plan.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "host/runtime/error.h"
#include "host/runtime/execution.h"
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
constexpr int64_t kMaxCudaPairs = std::numeric_limits<int32_t>::max();
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
  if (operations & RH_PAIR_LOSS) {
    require_range("max_pairs", options.max_pairs, int64_t{1}, context->cuda ? kMaxCudaPairs : kMaxPairs);
  }
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
  // Over an address that nobody uses, so that the mask tells where it is.
  const Workspace workspace = carve(reinterpret_cast<void*>(uintptr_t{RH_CUDA_ALIGNMENT}));
  workspace_bytes = std::max<size_t>(workspace.bytes, RH_ALIGNMENT);
  if (operations & RH_BACKWARD && shape.hidden) {
    const auto mask = reinterpret_cast<uintptr_t>(workspace.mask);
    mask_offset = mask - RH_CUDA_ALIGNMENT;
    mask_bytes = context->cuda ? reinterpret_cast<uintptr_t>(workspace.scratch) - mask
                               : static_cast<size_t>(rewardhead::kernels::mask_blocks(shape.rows) * shape.members *
                                                     shape.hidden) * sizeof *workspace.mask;
  }
}

rh_plan::Workspace rh_plan::carve(void* base) const {
  Carver carver(base);
  Workspace workspace = {};
  const bool keeps_mask = operations & RH_BACKWARD && shape.hidden;
  if constexpr (rewardhead::runtime::kHasCuda) {
    if (context->cuda) {
      // Pieces that begin where cudaMalloc would let them begin.
      const auto take = [&](size_t bytes) {
        return carver.take<char>(static_cast<int64_t>((bytes + RH_CUDA_ALIGNMENT - 1) / RH_CUDA_ALIGNMENT) *
                                 RH_CUDA_ALIGNMENT);
      };
      workspace.bad_pairs = reinterpret_cast<uint32_t*>(take(sizeof *workspace.bad_pairs));
      if (keeps_mask) {
        const size_t bytes = rewardhead::runtime::cuda_mask_bytes(*context->cuda, shape, dtype);
        workspace.mask = reinterpret_cast<uint64_t*>(take(bytes));
      }
      workspace.scratch = take(rewardhead::runtime::cuda_scratch(*context->cuda, shape, dtype, operations));
      workspace.bytes = carver.bytes();
      return workspace;
    }
  }
  const KernelTable& table = context->implementation->table();
  const int threads = context->threads();
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

// That the memory is where the plan computes.
void check_place(const rh_plan& plan, const char* name, const void* pointer, const char* member = "") {
  if constexpr (kHasCuda) {
    const auto& cuda = plan.context->cuda;
    const char* const found = misplaced(cuda ? &*cuda : nullptr, pointer);
    if (!found) return;
    refuse(std::string(name) + member + " is " + found + "; the plan's device is " +
           (cuda ? "GPU " + std::to_string(cuda->ordinal) : "the CPU"));
  }
}

void check_workspace(const rh_plan& plan, rh_workspace workspace) {
  require(workspace.data, "workspace.data is NULL");
  const uintptr_t alignment = plan.context->cuda ? RH_CUDA_ALIGNMENT : RH_ALIGNMENT;
  if (reinterpret_cast<uintptr_t>(workspace.data) % alignment) {
    refuse("workspace.data is not aligned to " + std::to_string(alignment) + " bytes");
  }
  check_place(plan, "workspace.data", workspace.data);
  if (workspace.bytes < plan.workspace_bytes) {
    refuse("workspace.bytes is " + std::to_string(workspace.bytes) + "; the plan needs " +
           std::to_string(plan.workspace_bytes));
  }
}

// A pointer that C callers may get wrong: null, off its element's alignment, or of the wrong memory. No string is made
// unless it is.
template <class T>
void check_pointer(const rh_plan& plan, const char* name, const T* pointer, const char* member = "") {
  if (!pointer) refuse(std::string(name) + member + " is NULL");
  if (reinterpret_cast<uintptr_t>(pointer) % alignof(T)) {
    refuse(std::string(name) + member + " is not aligned to its element");
  }
  check_place(plan, name, pointer, member);
}

void check_rows(const rh_plan& plan, const char* name, int64_t rows) {
  require_range(name, rows, int64_t{1}, plan.shape.rows);
}

void check_matrix(const rh_plan& plan, const rh_matrix* x) {
  require(x, "x is NULL");
  require(x->data, "x->data is NULL");
  const size_t element = plan.dtype == kernels::Dtype::f32 ? 4 : 2;
  if (reinterpret_cast<uintptr_t>(x->data) % element) refuse("x->data is not aligned to its element");
  check_place(plan, "x->data", x->data);
  check_rows(plan, "x->rows", x->rows);
  if (x->row_stride < plan.shape.input) {
    refuse("x->row_stride is " + std::to_string(x->row_stride) + "; the plan's input_dim is " +
           std::to_string(plan.shape.input));
  }
}

void check_tensors(const rh_plan& plan, const char* name, const rh_tensors* tensors) {
  if (!tensors) refuse(std::string(name) + " is NULL");
  check_pointer(plan, name, tensors->w1, "->w1");
  if (plan.shape.hidden == 0) {
    if (tensors->b1 || tensors->w2 || tensors->b2) {
      refuse(std::string(name) + " has b1, w2 or b2; a linear head (hidden_dim 0) has w1 only, the others are NULL");
    }
    return;
  }
  check_pointer(plan, name, tensors->b1, "->b1");
  check_pointer(plan, name, tensors->w2, "->w2");
  check_pointer(plan, name, tensors->b2, "->b2");
}

// The first of `count` for which bad(i) is 1, or `count`. Blocks have no branch, so that the compiler takes several at
// a time: there may be millions of pairs.
template <class Bad>
int64_t first_bad(int64_t count, const Bad& bad) {
  constexpr int64_t kBlock = 1024;
  for (int64_t first = 0; first < count; first += kBlock) {
    const int64_t end = std::min(count, first + kBlock);
    uint32_t any = 0;
    for (int64_t i = first; i < end; ++i) any |= bad(i);
    for (int64_t i = first; any && i < end; ++i) {
      if (bad(i)) return i;
    }
  }
  return count;
}

void check_values(const rh_plan& plan, const char* name, const float* values, int64_t count, float low, float high) {
  if (!values) return;
  check_pointer(plan, name, values);
  if (plan.context->cuda) return;  // what lies on the device is not read here
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
    check_pointer(plan, "pairs->chosen", pairs->chosen);
    check_pointer(plan, "pairs->rejected", pairs->rejected);
    const int64_t checked = plan.context->cuda ? 0 : pairs->count;  // on a GPU the kernel skips bad ones
    const int64_t bad = first_bad(
        checked, [all_chosen = pairs->chosen, all_rejected = pairs->rejected,
                       limit = static_cast<uint32_t>(rows)](int64_t i) -> uint32_t {
          const auto chosen = static_cast<uint32_t>(all_chosen[i]), rejected = static_cast<uint32_t>(all_rejected[i]);
          return (chosen >= limit) | (rejected >= limit) | (chosen == rejected);  // a negative one is large
        });
    if (bad < checked) {
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
  check_values(plan, "pairs->margin", pairs->margin, pairs->count, -kLargest, kLargest);
  check_values(plan, "pairs->weight", pairs->weight, plan.shape.members * pairs->count, 0, kLargest);
  check_values(plan, "pairs->label", pairs->label, pairs->count, 0, 1);
}

void check_input_gradient(const rh_plan& plan, const float* input_gradient, int64_t stride) {
  if (!input_gradient) return;
  require_operation(plan, RH_INPUT_GRADIENT, "RH_INPUT_GRADIENT");
  check_pointer(plan, "input_gradient", input_gradient);
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
  check_pointer(plan, "rewards", a.rewards);
  check_pointer(plan, "reward_gradient", a.reward_gradient);
  check_pointer(plan, "loss", a.loss);
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

}  // namespace

void forward(const rh_plan& plan, const rh_matrix* x, const rh_tensors* parameters, float* rewards,
             rh_workspace workspace) {
  require_operation(plan, RH_FORWARD, "RH_FORWARD");
  check_matrix(plan, x);
  check_tensors(plan, "parameters", parameters);
  check_pointer(plan, "rewards", rewards);
  check_workspace(plan, workspace);
  execute(plan, workspace, [&](auto& run) {
    run.forward(*x, *parameters, rewards);
  });
}

void pair_loss(const rh_plan& plan, const float* rewards, int64_t rows, const rh_pairs* pairs, double normalizer,
               float* loss, float* reward_gradient, rh_workspace workspace) {
  require_operation(plan, RH_PAIR_LOSS, "RH_PAIR_LOSS");
  check_pointer(plan, "rewards", rewards);
  check_rows(plan, "rows", rows);
  check_pairs(plan, pairs, rows, normalizer);
  check_pointer(plan, "loss", loss);
  if (reward_gradient) check_pointer(plan, "reward_gradient", reward_gradient);
  check_workspace(plan, workspace);
  execute(plan, workspace, [&](auto& run) {
    run.pair_loss(rewards, rows, *pairs, normalizer, loss, reward_gradient);
  });
}

int bad_pairs(const rh_plan& plan, rh_workspace workspace) {
  require_operation(plan, RH_PAIR_LOSS, "RH_PAIR_LOSS");
  check_workspace(plan, workspace);
  if constexpr (kHasCuda) {
    if (plan.context->cuda) return read_flag(*plan.context->cuda, plan.carve(workspace.data).bad_pairs) != 0;
  }
  return 0;
}

void backward(const rh_plan& plan, const rh_matrix* x, const rh_tensors* parameters, const float* reward_gradient,
              const rh_tensors* gradients, float* input_gradient, int64_t input_gradient_stride,
              rh_workspace workspace) {
  require_operation(plan, RH_BACKWARD, "RH_BACKWARD");
  check_matrix(plan, x);
  check_tensors(plan, "parameters", parameters);
  check_pointer(plan, "reward_gradient", reward_gradient);
  check_tensors(plan, "gradients", gradients);
  check_input_gradient(plan, input_gradient, input_gradient_stride);
  check_workspace(plan, workspace);
  execute(plan, workspace, [&](auto& run) {
    run.backward(*x, *parameters, reward_gradient, *gradients, input_gradient, input_gradient_stride);
  });
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
  if (gradient_norm) check_pointer(plan, "gradient_norm", gradient_norm);
  check_workspace(plan, workspace);
  execute(plan, workspace, [&](auto& run) {
    run.adamw(*options, *parameters, *gradients, *first_moments, *second_moments, gradient_norm);
  });
}

void loss_gradients(const rh_plan& plan, const rh_loss_arguments* arguments, rh_workspace workspace) {
  require_operation(plan, RH_PAIR_LOSS | RH_BACKWARD, "RH_PAIR_LOSS and RH_BACKWARD");
  check_arguments(arguments);
  const rh_loss_arguments& a = *arguments;
  check_loss(plan, a);
  check_input_gradient(plan, a.input_gradient, a.input_gradient_stride);
  check_workspace(plan, workspace);
  execute(plan, workspace, [&](auto& run) {
    run.loss_gradients(a);
  });
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
  if (a.gradient_norm) check_pointer(plan, "gradient_norm", a.gradient_norm);
  check_workspace(plan, workspace);
  execute(plan, workspace, [&](auto& run) {
    run.loss_gradients(loss);
    run.adamw(a.optimizer, a.parameters, a.gradients, a.first_moments, a.second_moments, a.gradient_norm);
  });
}

}  // namespace rewardhead::runtime
