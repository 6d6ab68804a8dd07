// SPDX-License-Identifier: Apache-2.0
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "host/dataset/error.h"
#include "host/python/bindings/bindings.h"
#include "host/python/bindings/machine.h"
#include "host/runtime/plan.h"

namespace nb = nanobind;

namespace rewardhead::python {
namespace {

using Address = uintptr_t;  // 0 where an argument is optional and absent

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

// x, rows, row stride in elements, columns, index of the dtype
using MatrixTuple = std::tuple<Address, int64_t, int64_t, int64_t, int>;
// w1, b1, w2, b2
using TensorsTuple = std::tuple<Address, Address, Address, Address>;
// chosen, rejected, bytes of their elements (4 or 8), count, margin, weight, label
using PairsTuple = std::tuple<Address, Address, int, int64_t, Address, Address, Address>;

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

// The pairs for the C interface. PyTorch's index type is int64: narrowed here, and refused where that would wrap.
class PairList {
 public:
  PairList(const PairsTuple& pairs, int64_t rows) {
    const auto& [chosen, rejected, bytes, count, margin, weight, label] = pairs;
    c_ = {count, nullptr, nullptr, at<const float>(margin), at<const float>(weight), at<const float>(label)};
    if (!chosen) return;
    c_.chosen = bytes == 4 ? at<const int32_t>(chosen) : narrow("chosen", chosen, count, rows, chosen_);
    c_.rejected = bytes == 4 ? at<const int32_t>(rejected) : narrow("rejected", rejected, count, rows, rejected_);
  }
  const rh_pairs* get() const { return &c_; }

 private:
  static const int32_t* narrow(const char* name, Address address, int64_t count, int64_t rows,
                               std::vector<int32_t>& values) {
    values.resize(static_cast<size_t>(count));
    const auto* wide = at<const int64_t>(address);
    for (int64_t i = 0; i < count; ++i) {
      if (wide[i] < 0 || wide[i] >= rows) {
        throw InputError(std::string(name) + "[" + std::to_string(i) + "] is " + std::to_string(wide[i]) +
                         "; expected 0 to " + std::to_string(rows - 1));
      }
      values[static_cast<size_t>(i)] = static_cast<int32_t>(wide[i]);
    }
    return values.data();
  }

  rh_pairs c_;
  std::vector<int32_t> chosen_, rejected_;
};

// The activation mask that a forward leaves in its workspace, [mask_blocks(rows), hidden] words.
struct Mask {
  Mask(const Plan& plan, const rh_workspace& workspace)
      : words(plan.get()->carve(workspace.data).mask),
        bytes(static_cast<size_t>(kernels::mask_blocks(plan.options().rows) * plan.options().hidden_dim) *
              sizeof(uint64_t)) {}
  uint64_t* words;
  size_t bytes;
};

// Where `mask` is not 0, it receives the words for head_backward.
void head_forward(int threads, const MatrixTuple& x, int64_t hidden, const TensorsTuple& parameters, Address rewards,
                  Address mask) {
  const bool keep = mask != 0 && hidden > 0;
  const Plan plan(context(threads), head_options(x, hidden, keep ? RH_FORWARD | RH_BACKWARD : RH_FORWARD));
  const rh_workspace memory = workspace(plan.get());
  const rh_matrix rows = matrix(x);
  const rh_tensors head = tensors(parameters);
  detail::throw_on_error(rh_forward(plan.get(), &rows, &head, at<float>(rewards), memory));
  if (!keep) return;
  const Mask kept(plan, memory);
  std::memcpy(at<void>(mask), kept.words, kept.bytes);
}

void head_backward(int threads, const MatrixTuple& x, int64_t hidden, const TensorsTuple& parameters, Address mask,
                   Address reward_gradient, const TensorsTuple& gradients, Address input_gradient) {
  const Plan plan(context(threads), head_options(x, hidden, input_gradient ? RH_INPUT_GRADIENT : RH_BACKWARD));
  const rh_workspace memory = workspace(plan.get());
  const rh_matrix rows = matrix(x);
  const rh_tensors head = tensors(parameters), written = tensors(gradients);
  if (hidden > 0) {
    const Mask kept(plan, memory);
    std::memcpy(kept.words, at<const void>(mask), kept.bytes);
  }
  detail::throw_on_error(rh_backward(plan.get(), &rows, &head, at<const float>(reward_gradient), &written,
                                     at<float>(input_gradient), plan.options().input_dim, memory));
}

void pair_loss(int threads, Address rewards, int64_t rows, const PairsTuple& pairs, double normalizer, Address loss,
               Address reward_gradient) {
  const PairList list(pairs, rows);
  const Plan plan(context(threads), {.rows = rows, .max_pairs = list.get()->count, .operations = RH_PAIR_LOSS});
  detail::throw_on_error(rh_pair_loss(plan.get(), at<const float>(rewards), rows, list.get(), normalizer,
                                      at<float>(loss), at<float>(reward_gradient), workspace(plan.get())));
}

// Forward, loss and, of a linear head, the gradient of its weights (one pass over X where pairs are adjacent rows).
void linear_loss_gradients(int threads, const MatrixTuple& x, Address w, const PairsTuple& pairs, double normalizer,
                           Address loss, Address reward_gradient, Address w_gradient) {
  const PairList list(pairs, std::get<1>(x));
  PlanOptions options = head_options(x, 0, RH_PAIR_LOSS | RH_BACKWARD);
  options.max_pairs = list.get()->count;
  const Plan plan(context(threads), options);
  std::vector<float> rewards(static_cast<size_t>(options.rows));
  const rh_loss_arguments arguments{sizeof(rh_loss_arguments),
                                    matrix(x),
                                    *list.get(),
                                    normalizer,
                                    {at<float>(w), nullptr, nullptr, nullptr},
                                    {at<float>(w_gradient), nullptr, nullptr, nullptr},
                                    rewards.data(),
                                    at<float>(reward_gradient),
                                    at<float>(loss),
                                    nullptr,
                                    0};
  detail::throw_on_error(rh_loss_gradients(plan.get(), &arguments, workspace(plan.get())));
}

// AdamW on `count` numbers in a row: as a linear head, in parts of at most its greatest width.
void adamw(int threads, int64_t count, Address parameter, Address gradient, Address first_moment, Address second_moment,
           double learning_rate, double beta1, double beta2, double epsilon, double weight_decay, int64_t step) {
  constexpr int64_t kPart = int64_t{1} << 24;
  const rh_adamw_options options{sizeof(rh_adamw_options), learning_rate, beta1, beta2, epsilon, weight_decay, 0, step};
  for (int64_t first = 0; first < count; first += kPart) {
    const Plan plan(context(threads),
                    {.rows = 1, .input_dim = std::min(kPart, count - first), .operations = RH_OPTIMIZER});
    const auto part = [&](Address address) {
      return rh_tensors{at<float>(address) + first, nullptr, nullptr, nullptr};
    };
    const rh_tensors p = part(parameter), g = part(gradient), m = part(first_moment), v = part(second_moment);
    detail::throw_on_error(rh_adamw(plan.get(), &options, &p, &g, &m, &v, nullptr, workspace(plan.get())));
  }
}

}  // namespace

void bind_kernels(nb::module_& module) {
  const auto released = nb::call_guard<nb::gil_scoped_release>();
  module.attr("MASK_ROWS") = kernels::kMaskRows;
  module.def("head_forward", &head_forward, released);
  module.def("head_backward", &head_backward, released);
  module.def("pair_loss", &pair_loss, released);
  module.def("linear_loss_gradients", &linear_loss_gradients, released);
  module.def("adamw", &adamw, released);
}

}  // namespace rewardhead::python
