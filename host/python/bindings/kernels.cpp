// SPDX-License-Identifier: Apache-2.0
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "host/dataset/error.h"
#include "host/python/bindings/bindings.h"
#include "host/python/bindings/machine.h"

namespace nb = nanobind;

#ifndef REWARDHEAD_HAS_CUDA
#define REWARDHEAD_HAS_CUDA 0
#endif

namespace rewardhead::python {
namespace {

using Address = uintptr_t;  // 0 where an argument is optional and absent

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

// -1, the CPU, and its threads; or a GPU's number and the address of its stream. The third is None on the CPU, and on a
// GPU a function of bytes that returns the address of so many, which stay until the operator returns.
using PlaceTuple = std::tuple<int, int64_t, nb::handle>;
// x, rows, row stride in elements, columns, index of the dtype
using MatrixTuple = std::tuple<Address, int64_t, int64_t, int64_t, int>;
// w1, b1, w2, b2
using TensorsTuple = std::tuple<Address, Address, Address, Address>;
// The activation mask that is kept between forward and backward, and its bytes; 0, 0 without.
using MaskTuple = std::tuple<Address, size_t>;
// chosen, rejected, bytes of their elements (4 or 8), count, margin, weight, label
using PairsTuple = std::tuple<Address, Address, int, int64_t, Address, Address, Address>;

// Elements of an array; parameter, gradient, first and second moments; the number of steps done, a float of the host.
using UpdateTuple = std::tuple<int64_t, std::tuple<Address, Address, Address, Address>, Address>;

bool on_cpu(const PlaceTuple& place) { return std::get<0>(place) < 0; }

void* stream(const PlaceTuple& place) { return at<void>(static_cast<Address>(std::get<1>(place))); }

const Context& context_of(const PlaceTuple& place) {
  return on_cpu(place) ? context(static_cast<int>(std::get<1>(place))) : context(std::get<0>(place), stream(place));
}

rh_workspace workspace_of(const PlaceTuple& place, size_t bytes) {
  if (on_cpu(place)) return workspace(bytes);
  const nb::gil_scoped_acquire held;
  return {at<void>(nb::cast<Address>(std::get<2>(place)(bytes))), bytes};
}

size_t rounded_up(size_t bytes) {
  constexpr size_t kMultiple = std::max(RH_ALIGNMENT, RH_CUDA_ALIGNMENT);
  return (bytes + kMultiple - 1) / kMultiple * kMultiple;
}

// What is left behind the first bytes, which are `rounded_up`.
rh_workspace without(const rh_workspace& memory, size_t bytes) {
  return {static_cast<std::byte*>(memory.data) + bytes, memory.bytes - bytes};
}

rh_matrix matrix(const MatrixTuple& x) { return {at<const void>(std::get<0>(x)), std::get<1>(x), std::get<2>(x)}; }

rh_tensors tensors(const TensorsTuple& t) {
  return {at<float>(std::get<0>(t)), at<float>(std::get<1>(t)), at<float>(std::get<2>(t)), at<float>(std::get<3>(t))};
}

PlanOptions head_options(const MatrixTuple& x, int64_t hidden, uint32_t operations) {
  return {.rows = std::get<1>(x),
          .input_dim = std::get<3>(x),
          .hidden_dim = hidden,
          .operations = operations,
          .input_dtype = static_cast<rh_dtype>(std::get<4>(x))};
}

void expect_gradients(const PlaceTuple& place, const PlanOptions& options, const rh_tensors& gradients,
                      Address input_gradient) {
  if (!on_cpu(place)) return;
  const auto input = static_cast<size_t>(options.input_dim), hidden = static_cast<size_t>(options.hidden_dim);
  expect_writes(gradients.w1, sizeof(float) * input * std::max<size_t>(1, hidden));
  if (input_gradient) expect_writes(at<void>(input_gradient), sizeof(float) * static_cast<size_t>(options.rows) * input);
}

// The pairs for the C interface. PyTorch's index type is int64: narrowed into the `bytes` of its pairs, and refused where
// that would wrap. On a GPU they come as int32.
class PairList {
 public:
  static size_t bytes(const PairsTuple& pairs) {
    const auto count = static_cast<size_t>(std::get<3>(pairs));
    return std::get<2>(pairs) == sizeof(int64_t) ? rounded_up(2 * sizeof(int32_t) * count) : 0;
  }
  PairList(const PairsTuple& pairs, int64_t rows, void* memory) {
    const auto& [chosen, rejected, bytes, count, margin, weight, label] = pairs;
    c_ = {count, at<int32_t>(chosen), at<int32_t>(rejected), at<float>(margin), at<float>(weight), at<float>(label)};
    if (bytes != sizeof(int64_t)) return;
    auto* const narrowed = static_cast<int32_t*>(memory);
    narrow("chosen", at<int64_t>(chosen), count, rows, narrowed);
    narrow("rejected", at<int64_t>(rejected), count, rows, narrowed + count);
    c_.chosen = narrowed;
    c_.rejected = narrowed + count;
  }
  const rh_pairs* get() const { return &c_; }

 private:
  static void narrow(const char* name, const int64_t* wide, int64_t count, int64_t rows, int32_t* narrowed) {
    uint64_t negative = 0;  // in its highest bit: whether any index is, or lies beyond the last row
    for (int64_t i = 0; i < count; ++i) {
      const auto index = static_cast<uint64_t>(wide[i]);
      negative |= index | (static_cast<uint64_t>(rows - 1) - index);
      narrowed[i] = static_cast<int32_t>(wide[i]);
    }
    if (!(negative >> 63)) return;
    const int64_t* bad = std::find_if(wide, wide + count, [rows](int64_t i) { return i < 0 || i >= rows; });
    throw InputError(std::string(name) + "[" + std::to_string(bad - wide) + "] is " + std::to_string(*bad) +
                     "; expected 0 to " + std::to_string(rows - 1));
  }

  rh_pairs c_;
};

// The activation mask within a workspace.
void* mask_in(const rh_workspace& memory, const Plan& plan) {
  return static_cast<std::byte*>(memory.data) + rh_plan_mask_offset(plan.get());
}

// Between there and memory that is kept, of `room` bytes.
void copy_mask(const PlaceTuple& place, const Plan& plan, void* to, const void* from, size_t room) {
  const size_t bytes = rh_plan_mask_bytes(plan.get());
  if (bytes > room) {
    throw Error(RH_INTERNAL_ERROR,
                "a mask of " + std::to_string(bytes) + " bytes, with room for " + std::to_string(room));
  }
  if (on_cpu(place)) {
    std::memcpy(to, from, bytes);
  } else {
    copy_on_gpu(stream(place), to, from, bytes);
  }
}

// Where the mask's address is not 0, it receives what head_backward needs.
void head_forward(const PlaceTuple& place, const MatrixTuple& x, int64_t hidden, const TensorsTuple& parameters,
                  Address rewards, const MaskTuple& mask) {
  const auto [kept, room] = mask;
  const Plan plan(context_of(place), head_options(x, hidden, kept ? RH_BACKWARD : RH_FORWARD));
  const rh_workspace memory = workspace_of(place, plan.workspace_bytes());
  const rh_matrix rows = matrix(x);
  const rh_tensors head = tensors(parameters);
  detail::throw_on_error(rh_forward(plan.get(), &rows, &head, at<float>(rewards), memory));
  if (kept) copy_mask(place, plan, at<void>(kept), mask_in(memory, plan), room);
}

void head_backward(const PlaceTuple& place, const MatrixTuple& x, int64_t hidden, const TensorsTuple& parameters,
                   const MaskTuple& mask, Address reward_gradient, const TensorsTuple& gradients,
                   Address input_gradient) {
  const auto [kept, room] = mask;
  const Plan plan(context_of(place), head_options(x, hidden, input_gradient ? RH_INPUT_GRADIENT : RH_BACKWARD));
  const rh_workspace memory = workspace_of(place, plan.workspace_bytes());
  const rh_matrix rows = matrix(x);
  const rh_tensors head = tensors(parameters), written = tensors(gradients);
  if (kept) copy_mask(place, plan, mask_in(memory, plan), at<const void>(kept), room);
  expect_gradients(place, plan.options(), written, input_gradient);
  detail::throw_on_error(rh_backward(plan.get(), &rows, &head, at<const float>(reward_gradient), &written,
                                     at<float>(input_gradient), plan.options().input_dim, memory));
}

void pair_loss(const PlaceTuple& place, Address rewards, int64_t rows, const PairsTuple& pairs, double normalizer,
               Address loss, Address reward_gradient) {
  const Plan plan(context_of(place), {.rows = rows, .max_pairs = std::get<3>(pairs), .operations = RH_PAIR_LOSS});
  const size_t of_list = PairList::bytes(pairs);
  const rh_workspace memory = workspace_of(place, of_list + plan.workspace_bytes());
  const PairList list(pairs, rows, memory.data);
  detail::throw_on_error(rh_pair_loss(plan.get(), at<const float>(rewards), rows, list.get(), normalizer,
                                      at<float>(loss), at<float>(reward_gradient), without(memory, of_list)));
}

// Forward, loss and gradients of all parameters, and of x where the address of that is not 0.
void loss_gradients(const PlaceTuple& place, const MatrixTuple& x, int64_t hidden, const TensorsTuple& parameters,
                    const PairsTuple& pairs, double normalizer, Address loss, const TensorsTuple& gradients,
                    Address input_gradient) {
  PlanOptions options = head_options(x, hidden, RH_PAIR_LOSS | (input_gradient ? RH_INPUT_GRADIENT : RH_BACKWARD));
  options.max_pairs = std::get<3>(pairs);
  const Plan plan(context_of(place), options);
  const size_t of_list = PairList::bytes(pairs);
  const size_t of_rows = rounded_up(sizeof(float) * static_cast<size_t>(options.rows));
  const rh_workspace memory = workspace_of(place, of_list + 2 * of_rows + plan.workspace_bytes());
  const PairList list(pairs, options.rows, memory.data);
  const rh_workspace rewards = without(memory, of_list), gradient = without(rewards, of_rows);
  const rh_loss_arguments arguments{sizeof arguments,
                                    matrix(x),
                                    *list.get(),
                                    normalizer,
                                    tensors(parameters),
                                    tensors(gradients),
                                    static_cast<float*>(rewards.data),
                                    static_cast<float*>(gradient.data),
                                    at<float>(loss),
                                    at<float>(input_gradient),
                                    options.input_dim};
  expect_gradients(place, options, arguments.gradients, input_gradient);
  detail::throw_on_error(rh_loss_gradients(plan.get(), &arguments, without(gradient, of_rows)));
}

// AdamW on flat arrays: as linear heads, in parts of at most their greatest width. The steps done advance by 1.
void adamw(const PlaceTuple& place, const std::vector<UpdateTuple>& updates, double learning_rate, double beta1,
           double beta2, double epsilon, double weight_decay) {
  constexpr int64_t kPart = int64_t{1} << 24;
  for (const auto& [count, arrays, step] : updates) {
    const auto& [parameter, gradient, first_moment, second_moment] = arrays;
    float& done = *at<float>(step);
    const rh_adamw_options options{sizeof options, learning_rate, beta1, beta2, epsilon, weight_decay, 0,
                                   static_cast<int64_t>(done) + 1};
    for (int64_t first = 0; first < count; first += kPart) {
      const Plan plan(context_of(place),
                      {.rows = 1, .input_dim = std::min(kPart, count - first), .operations = RH_OPTIMIZER});
      const auto part = [&](Address address) {
        return rh_tensors{at<float>(address) + first, nullptr, nullptr, nullptr};
      };
      const rh_tensors p = part(parameter), g = part(gradient), m = part(first_moment), v = part(second_moment);
      detail::throw_on_error(rh_adamw(plan.get(), &options, &p, &g, &m, &v, nullptr, workspace_of(place, plan.workspace_bytes())));
    }
    done += 1;
  }
}

}  // namespace

void bind_kernels(nb::module_& module) {
  const auto released = nb::call_guard<nb::gil_scoped_release>();
  module.attr("HAS_CUDA") = REWARDHEAD_HAS_CUDA != 0;
  module.def("head_forward", &head_forward, released);
  module.def("head_backward", &head_backward, released);
  module.def("pair_loss", &pair_loss, released);
  module.def("loss_gradients", &loss_gradients, released);
  module.def("adamw", &adamw, released);
}

}  // namespace rewardhead::python
