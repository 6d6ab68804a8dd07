// SPDX-License-Identifier: Apache-2.0
//
// The C++ face of rewardhead.h: owners for its handles, spans for its arrays, exceptions for its statuses. Header only.
// Every call does what the C function of the same name does; shapes, units and limits are documented there.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "rewardhead/rewardhead.h"

namespace rewardhead {

// A call that the library refused. what() is rh_last_error_message().
class Error : public std::runtime_error {
 public:
  Error(rh_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  rh_status status() const noexcept { return status_; }

 private:
  rh_status status_;
};

namespace detail {

inline void throw_on_error(rh_status status) {
  if (status != RH_OK) throw Error(status, rh_last_error_message());
}

inline void require(bool condition, const char* message) {
  if (!condition) throw Error(RH_INVALID_ARGUMENT, message);
}

inline void require_size(const char* name, size_t found, int64_t expected) {
  if (static_cast<int64_t>(found) != expected) {
    throw Error(RH_INVALID_ARGUMENT, std::string(name) + " has " + std::to_string(found) + " elements where " +
                                         std::to_string(expected) + " are expected");
  }
}

}  // namespace detail

struct ContextOptions {
  rh_device device = RH_DEVICE_AUTO;
  std::string isa = {};                   // a name of rh_isa_name; empty: the environment's REWARDHEAD_ISA, else "auto"
  int threads = 0;                        // 0: what the affinity mask and the cgroup's CPU quota allow
  const rh_executor* executor = nullptr;  // the caller's own threads; null: the context starts some
  void* stream = nullptr;                 // RH_DEVICE_CUDA: the cudaStream_t of every execute
};

// Instruction set and worker threads, or a GPU and a stream. Must outlive its plans. Head and Workspace below are host
// memory: plans of a GPU are executed by the C functions on get().
class Context {
 public:
  explicit Context(const ContextOptions& options = {}) : stream_(options.stream) {
    const rh_context_options c{sizeof(rh_context_options), options.device,
                               options.isa.empty() ? nullptr : options.isa.c_str(), options.threads, options.executor,
                               options.stream};
    rh_context* context = nullptr;
    detail::throw_on_error(rh_context_create(&c, &context));
    context_.reset(context);
  }

  rh_context* get() const noexcept { return context_.get(); }
  int threads() const noexcept { return rh_context_threads(get()); }
  const char* isa() const noexcept { return rh_context_isa(get()); }
  rh_device device() const noexcept { return rh_context_device(get()); }
  void* stream() const noexcept { return stream_; }  // as given

  // The dispatch list, best first within each operation. The strings live as long as the context.
  std::vector<rh_kernel_info> kernels() const {
    std::vector<rh_kernel_info> list(static_cast<size_t>(rh_context_kernel_count(get())));
    for (size_t i = 0; i < list.size(); ++i) {
      list[i].struct_size = sizeof(rh_kernel_info);
      detail::throw_on_error(rh_context_kernel(get(), static_cast<int>(i), &list[i]));
    }
    return list;
  }

 private:
  struct Destroy {
    void operator()(rh_context* context) const noexcept { rh_context_destroy(context); }
  };
  std::unique_ptr<rh_context, Destroy> context_;
  void* stream_;
};

// The tensors of a head in one piece of memory, W1 [hidden, input], b1 [hidden], w2 [hidden], b2 [1] one after the
// other, all zero at first: parameters, their gradients, or one of AdamW's moments. The linear head (hidden 0) has
// w1 [input] alone, and the other spans are empty.
class Head {
 public:
  Head(int64_t input, int64_t hidden) : input_(input), hidden_(hidden) {
    detail::require(input >= 1 && hidden >= 0, "a head needs an input dimension >= 1 and a hidden dimension >= 0");
    values_.resize(static_cast<size_t>(hidden == 0 ? input : hidden * (input + 2) + 1));
  }

  int64_t input() const noexcept { return input_; }
  int64_t hidden() const noexcept { return hidden_; }
  bool linear() const noexcept { return hidden_ == 0; }

  std::span<float> values() noexcept { return values_; }
  std::span<const float> values() const noexcept { return values_; }
  std::span<float> w1() noexcept { return values().first(w1_size()); }
  std::span<const float> w1() const noexcept { return values().first(w1_size()); }
  std::span<float> b1() noexcept { return values().subspan(w1_size(), hidden_size()); }
  std::span<const float> b1() const noexcept { return values().subspan(w1_size(), hidden_size()); }
  std::span<float> w2() noexcept { return values().subspan(w1_size() + hidden_size(), hidden_size()); }
  std::span<const float> w2() const noexcept { return values().subspan(w1_size() + hidden_size(), hidden_size()); }
  std::span<float> b2() noexcept { return values().subspan(w1_size() + 2 * hidden_size()); }
  std::span<const float> b2() const noexcept { return values().subspan(w1_size() + 2 * hidden_size()); }

  // For the C interface, which has one struct for tensors read and written: of a const head, only to be read.
  rh_tensors tensors() const noexcept {
    const auto pointer = [](std::span<const float> s) { return s.empty() ? nullptr : const_cast<float*>(s.data()); };
    return {pointer(w1()), pointer(b1()), pointer(w2()), pointer(b2())};
  }

 private:
  size_t hidden_size() const noexcept { return static_cast<size_t>(hidden_); }
  size_t w1_size() const noexcept { return static_cast<size_t>(input_ * (hidden_ == 0 ? 1 : hidden_)); }

  int64_t input_;
  int64_t hidden_;
  std::vector<float> values_;
};

// Row-major X [rows, values.size() / rows] of fp32; for other types and strides fill in an rh_matrix.
inline rh_matrix matrix(std::span<const float> values, int64_t rows) {
  detail::require(rows >= 1 && !values.empty() && static_cast<int64_t>(values.size()) % rows == 0,
                  "a matrix needs rows >= 1 and a number of values that is a multiple of it");
  return {values.data(), rows, static_cast<int64_t>(values.size()) / rows};
}

// Comparisons between rows. Without chosen and rejected, pair i is (2i, 2i+1) and `count` says how many there are.
struct Pairs {
  std::span<const int32_t> chosen = {}, rejected = {};
  std::span<const float> margin = {}, weight = {}, label = {};  // empty: 0, 1, 1
  int64_t count = 0;                                            // with chosen and rejected: 0 or their size

  rh_pairs c() const {
    const int64_t pairs = chosen.empty() && rejected.empty() ? count : static_cast<int64_t>(chosen.size());
    detail::require(count == 0 || count == pairs, "count differs from the number of chosen rows");
    if (!chosen.empty() || !rejected.empty()) detail::require_size("rejected", rejected.size(), pairs);
    if (!margin.empty()) detail::require_size("margin", margin.size(), pairs);
    if (!weight.empty()) detail::require_size("weight", weight.size(), pairs);
    if (!label.empty()) detail::require_size("label", label.size(), pairs);
    return {pairs, chosen.data(), rejected.data(), margin.data(), weight.data(), label.data()};
  }
};

struct AdamwOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  double clip_norm = 0;  // 0: never

  rh_adamw_options c(int64_t step) const {
    return {sizeof(rh_adamw_options), learning_rate, beta1, beta2, epsilon, weight_decay, clip_norm, step};
  }
};

struct PlanOptions {
  int64_t rows = 0;
  int64_t input_dim = 0;
  int64_t hidden_dim = 0;
  int64_t max_pairs = 0;
  uint32_t operations = RH_TRAIN;
  rh_dtype input_dtype = RH_F32;
  rh_objective objective = RH_BRADLEY_TERRY;
  int64_t members = 1;  // of an ensemble; more than 1 only through the C functions on get(), since Head is one head
  rh_planning planning = RH_PLAN_MODEL;
  std::string choices = {};  // of Plan::choices, on a GPU; empty: none
};

class Plan;

// Memory for one execute at a time, aligned to RH_ALIGNMENT.
class Workspace {
 public:
  explicit Workspace(const Plan& plan);
  rh_workspace get() const noexcept { return {data_.get(), bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* data) const noexcept { ::operator delete[](data, std::align_val_t{RH_ALIGNMENT}); }
  };
  size_t bytes_;
  std::unique_ptr<std::byte, Free> data_;
};

// What training keeps besides the parameters. Moments and step are zero before the first step.
struct TrainingState {
  TrainingState(const Head& head, int64_t rows)
      : gradients(head.input(), head.hidden()),
        first_moments(gradients),
        second_moments(gradients),
        rewards(static_cast<size_t>(rows)),
        reward_gradient(static_cast<size_t>(rows)) {}

  Head gradients, first_moments, second_moments;
  std::vector<float> rewards, reward_gradient;  // of the rows of the latest step
  float gradient_norm = 0;                      // of the latest step, before clipping
  int64_t step = 0;                             // steps done
};

// Validated shapes; immutable, may be shared by threads that each bring a workspace.
class Plan {
 public:
  Plan(const Context& context, const PlanOptions& options) : options_(options) {
    const rh_plan_options c{sizeof(rh_plan_options), options.operations, options.rows,
                            options.input_dim,       options.hidden_dim, options.input_dtype,
                            options.max_pairs,       options.objective,  options.members,
                            options.planning,        options.choices.empty() ? nullptr : options.choices.c_str()};
    rh_plan* plan = nullptr;
    detail::throw_on_error(rh_plan_create(context.get(), &c, &plan));
    plan_.reset(plan);
  }

  rh_plan* get() const noexcept { return plan_.get(); }
  const PlanOptions& options() const noexcept { return options_; }
  size_t workspace_bytes() const noexcept { return rh_plan_workspace_bytes(get()); }

  // rh_plan_export.
  std::string choices() const {
    size_t bytes = 0;
    detail::throw_on_error(rh_plan_export(get(), nullptr, &bytes));
    std::string text(bytes, '\0');
    detail::throw_on_error(rh_plan_export(get(), text.data(), &bytes));
    text.resize(bytes - 1);
    return text;
  }

  void forward(const rh_matrix& x, const Head& head, std::span<float> rewards, const Workspace& workspace) const {
    check_head("head", head);
    detail::require_size("rewards", rewards.size(), x.rows);
    const rh_tensors parameters = head.tensors();
    detail::throw_on_error(rh_forward(get(), &x, &parameters, rewards.data(), workspace.get()));
  }

  // The loss; `reward_gradient` is empty or has as many elements as `rewards`. normalizer 0: the number of pairs.
  float pair_loss(std::span<const float> rewards, const Pairs& pairs, std::span<float> reward_gradient,
                  const Workspace& workspace, double normalizer = 0) const {
    check_members();
    const int64_t rows = static_cast<int64_t>(rewards.size());
    if (!reward_gradient.empty()) detail::require_size("reward_gradient", reward_gradient.size(), rows);
    const rh_pairs c = pairs.c();
    float loss = 0;
    detail::throw_on_error(rh_pair_loss(get(), rewards.data(), rows, &c, normalizer, &loss,
                                        reward_gradient.empty() ? nullptr : reward_gradient.data(), workspace.get()));
    return loss;
  }

  // `input_gradient` is empty, or contiguous [x.rows, input].
  void backward(const rh_matrix& x, const Head& head, std::span<const float> reward_gradient, Head& gradients,
                std::span<float> input_gradient, const Workspace& workspace) const {
    check_head("head", head);
    check_head("gradients", gradients);
    detail::require_size("reward_gradient", reward_gradient.size(), x.rows);
    if (!input_gradient.empty()) {
      detail::require_size("input_gradient", input_gradient.size(), x.rows * options_.input_dim);
    }
    const rh_tensors parameters = head.tensors(), written = gradients.tensors();
    detail::throw_on_error(rh_backward(get(), &x, &parameters, reward_gradient.data(), &written,
                                       input_gradient.empty() ? nullptr : input_gradient.data(), options_.input_dim,
                                       workspace.get()));
  }

  // Forward, loss and backward in one call; returns the loss, and writes state.rewards, state.reward_gradient,
  // state.gradients and, unless it is empty, input_gradient [x.rows, input].
  float loss_gradients(const rh_matrix& x, const Pairs& pairs, const Head& head, TrainingState& state,
                       std::span<float> input_gradient, const Workspace& workspace, double normalizer = 0) const {
    check_state(head, state, x.rows);
    if (!input_gradient.empty()) {
      detail::require_size("input_gradient", input_gradient.size(), x.rows * options_.input_dim);
    }
    float loss = 0;
    const rh_loss_arguments arguments{sizeof(rh_loss_arguments),
                                      x,
                                      pairs.c(),
                                      normalizer,
                                      head.tensors(),
                                      state.gradients.tensors(),
                                      state.rewards.data(),
                                      state.reward_gradient.data(),
                                      &loss,
                                      input_gradient.empty() ? nullptr : input_gradient.data(),
                                      options_.input_dim};
    detail::throw_on_error(rh_loss_gradients(get(), &arguments, workspace.get()));
    return loss;
  }

  // One AdamW step from state.gradients; advances state.step.
  void adamw(const AdamwOptions& options, Head& head, TrainingState& state, const Workspace& workspace) const {
    check_state(head, state, 0);
    const rh_adamw_options c = options.c(state.step + 1);
    const rh_tensors parameters = head.tensors(), gradients = state.gradients.tensors(),
                     first = state.first_moments.tensors(), second = state.second_moments.tensors();
    detail::throw_on_error(
        rh_adamw(get(), &c, &parameters, &gradients, &first, &second, &state.gradient_norm, workspace.get()));
    ++state.step;
  }

  // Forward, loss, backward and AdamW; returns the loss before the update. `state` has room for x.rows rows or more.
  float train_step(const rh_matrix& x, const Pairs& pairs, const AdamwOptions& options, Head& head,
                   TrainingState& state, const Workspace& workspace, double normalizer = 0) const {
    check_state(head, state, x.rows);
    float loss = 0;
    const rh_train_arguments arguments{sizeof(rh_train_arguments),
                                       x,
                                       pairs.c(),
                                       normalizer,
                                       options.c(state.step + 1),
                                       head.tensors(),
                                       state.gradients.tensors(),
                                       state.first_moments.tensors(),
                                       state.second_moments.tensors(),
                                       state.rewards.data(),
                                       state.reward_gradient.data(),
                                       &loss,
                                       &state.gradient_norm};
    detail::throw_on_error(rh_train_step(get(), &arguments, workspace.get()));
    ++state.step;
    return loss;
  }

 private:
  void check_members() const {
    if (options_.members > 1) {
      throw Error(RH_INVALID_ARGUMENT, "the plan has " + std::to_string(options_.members) +
                                           " members; ensembles are executed by the C functions on get()");
    }
  }

  void check_head(const char* name, const Head& head) const {
    check_members();
    if (head.input() != options_.input_dim || head.hidden() != options_.hidden_dim) {
      throw Error(RH_INVALID_ARGUMENT, std::string(name) + " has input_dim " + std::to_string(head.input()) +
                                           " and hidden_dim " + std::to_string(head.hidden()) + ", but the plan has " +
                                           std::to_string(options_.input_dim) + " and " +
                                           std::to_string(options_.hidden_dim));
    }
  }

  void check_state(const Head& head, const TrainingState& state, int64_t rows) const {
    detail::require(static_cast<int64_t>(std::min(state.rewards.size(), state.reward_gradient.size())) >= rows,
                    "the state has fewer rows than x");
    check_head("head", head);
    check_head("state.gradients", state.gradients);
    check_head("state.first_moments", state.first_moments);
    check_head("state.second_moments", state.second_moments);
  }

  struct Destroy {
    void operator()(rh_plan* plan) const noexcept { rh_plan_destroy(plan); }
  };
  PlanOptions options_;
  std::unique_ptr<rh_plan, Destroy> plan_;
};

inline Workspace::Workspace(const Plan& plan)
    : bytes_(plan.workspace_bytes()), data_(new (std::align_val_t{RH_ALIGNMENT}) std::byte[bytes_]) {}

}  // namespace rewardhead
