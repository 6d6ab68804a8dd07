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
#include "host/python/bindings/tensor.h"

namespace nb = nanobind;
using namespace nb::literals;

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
// w1, b1, w2, b2; of the linear head None after the first
using HeadTuple = std::tuple<nb::handle, nb::handle, nb::handle, nb::handle>;
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

std::string text(nb::handle object) { return nb::str(object).c_str(); }

// As Python shows a tuple.
std::string shape_of(const Tensor& tensor) {
  std::string shape;
  for (int dim = 0; dim < tensor.dims(); ++dim) shape += (dim ? ", " : "") + std::to_string(tensor.size(dim));
  return "(" + shape + (tensor.dims() == 1 ? ",)" : ")");
}

rh_matrix matrix_of(nb::handle object, const Tensor& x) {
  const bool is_readable = x.dims() == 2 && (x.is_f32() || x.is_f16() || x.is_bf16());
  if (!is_readable || (x.size(1) > 1 && x.stride(1) != 1)) {
    throw InputError("x is " + text(object.attr("dtype")) + " of the shape " + shape_of(x) +
                     "; expected float32, float16 or bfloat16, [rows, input], elements of a row side by side");
  }
  return {x.data(), x.size(0), x.size(0) > 1 ? x.stride(0) : x.size(1)};
}

// x [rows, columns] and the parameters of a head.
struct HeadArguments {
  HeadArguments(nb::handle x_object, const HeadTuple& head) {
    const Tensor matrix(x_object), w1(std::get<0>(head));
    const bool is_linear = std::get<1>(head).is_none();
    check_whole(head);
    x = matrix_of(x_object, matrix);
    columns = matrix.size(1);
    dtype = matrix.is_f32() ? RH_F32 : matrix.is_f16() ? RH_F16 : RH_BF16;
    parameters.w1 = parameter("w1", std::get<0>(head), w1, matrix, x_object);
    if (w1.dims() != 2 || (is_linear && w1.size(0) != 1)) {
      throw InputError(std::string(is_linear ? "a linear head has a weight" : "w1 is") + " of the shape " +
                       shape_of(w1) + "; expected [" + (is_linear ? "1" : "hidden") + ", input]");
    }
    if (w1.size(1) != columns) {
      throw InputError("x has " + std::to_string(columns) + " columns; expected " + std::to_string(w1.size(1)) +
                       ", the head's input");
    }
    if (is_linear) return;
    hidden = w1.size(0);
    const Tensor b1(std::get<1>(head)), w2(std::get<2>(head)), b2(std::get<3>(head));
    parameters.b1 = parameter("b1", std::get<1>(head), b1, matrix, x_object);
    parameters.w2 = parameter("w2", std::get<2>(head), w2, matrix, x_object);
    parameters.b2 = parameter("b2", std::get<3>(head), b2, matrix, x_object);
    if (b1.count() != hidden || w2.count() != hidden || b2.count() != 1) {
      throw InputError("b1, w2 and b2 have (" + std::to_string(b1.count()) + ", " + std::to_string(w2.count()) + ", " +
                       std::to_string(b2.count()) + ") elements; expected (" + std::to_string(hidden) + ", " +
                       std::to_string(hidden) + ", 1)");
    }
  }

  PlanOptions options(uint32_t operations) const {
    return {.rows = x.rows,
            .input_dim = columns,
            .hidden_dim = hidden,
            .operations = operations,
            .input_dtype = dtype};
  }

  rh_matrix x;
  rh_dtype dtype;
  int64_t columns, hidden = 0;
  rh_tensors parameters = {};

 private:
  static void check_whole(const HeadTuple& head) {
    const bool is_linear = std::get<1>(head).is_none();
    if (std::get<2>(head).is_none() == is_linear && std::get<3>(head).is_none() == is_linear) return;
    const auto state = [](nb::handle tensor) { return tensor.is_none() ? "None" : "given"; };
    throw InputError(std::string("b1 is ") + state(std::get<1>(head)) + ", w2 " + state(std::get<2>(head)) +
                     ", b2 " + state(std::get<3>(head)) + "; expected all of them, or none (the linear head)");
  }

  static float* parameter(const char* name, nb::handle object, const Tensor& tensor, const Tensor& matrix,
                          nb::handle x_object) {
    if (!tensor.is_f32() || !tensor.is_contiguous() || !tensor.is_beside(matrix)) {
      throw InputError(std::string(name) + " is " + (tensor.is_contiguous() ? "" : "non-contiguous ") +
                       text(object.attr("dtype")) + " on " + text(object.attr("device")) +
                       "; expected contiguous float32 on " + text(x_object.attr("device")) + ", as x");
    }
    return static_cast<float*>(tensor.data());
  }
};

// Tensors in float32 that the operators have made, or have checked: nothing of them is checked here.
float* floats(nb::handle object) { return object.is_none() ? nullptr : static_cast<float*>(Tensor(object).data()); }

rh_tensors all_floats(const nb::list& gradients) {
  rh_tensors found = {};
  float** const members[] = {&found.w1, &found.b1, &found.w2, &found.b2};
  for (size_t i = 0; i < std::min(gradients.size(), std::size(members)); ++i) *members[i] = floats(gradients[i]);
  return found;
}

// The activation mask that is kept between forward and backward.
struct Mask {
  explicit Mask(nb::handle object) {
    if (object.is_none()) return;
    const Tensor tensor(object);
    data = tensor.data();
    bytes = sizeof(int64_t) * static_cast<size_t>(tensor.count());
  }
  void* data = nullptr;
  size_t bytes = 0;
};

void expect_gradients(const PlaceTuple& place, const PlanOptions& options, const rh_tensors& gradients,
                      float* input_gradient) {
  if (!on_cpu(place)) return;
  const auto input = static_cast<size_t>(options.input_dim), hidden = static_cast<size_t>(options.hidden_dim);
  expect_writes(gradients.w1, sizeof(float) * input * std::max<size_t>(1, hidden));
  const size_t rows = static_cast<size_t>(options.rows);
  if (input_gradient) expect_writes(input_gradient, sizeof(float) * rows * input);
}

// The pairs for the C interface. PyTorch's index type is int64: narrowed into `bytes` of memory, and refused where that
// would wrap. On a GPU they come as int32.
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

// The mask, unless None, receives what head_backward needs. Without rows, what is given is checked and that is all.
void head_forward(const PlaceTuple& place, nb::handle x, const HeadTuple& head, nb::handle rewards,
                  nb::handle mask_tensor) {
  const HeadArguments arguments(x, head);
  const Mask mask(mask_tensor);
  float* const r = floats(rewards);
  if (arguments.x.rows == 0) return;
  const nb::gil_scoped_release released;
  const Plan plan(context_of(place), arguments.options(mask.data ? RH_BACKWARD : RH_FORWARD));
  const rh_workspace memory = workspace_of(place, plan.workspace_bytes());
  detail::throw_on_error(rh_forward(plan.get(), &arguments.x, &arguments.parameters, r, memory));
  if (mask.data) copy_mask(place, plan, mask.data, mask_in(memory, plan), mask.bytes);
}

// The gradients are of w1, b1, w2 and b2, or of w1 alone; that of x, unless None, is in float32.
void head_backward(const PlaceTuple& place, nb::handle x, const HeadTuple& head, nb::handle mask_tensor,
                   nb::handle reward_gradient, const nb::list& gradients, nb::handle input_gradient) {
  const HeadArguments arguments(x, head);
  const Mask mask(mask_tensor);
  const float* const dr = floats(reward_gradient);
  const rh_tensors results = all_floats(gradients);
  float* const dx = floats(input_gradient);
  if (arguments.x.rows == 0) return;
  const nb::gil_scoped_release released;
  const Plan plan(context_of(place), arguments.options(dx ? RH_INPUT_GRADIENT : RH_BACKWARD));
  const rh_workspace memory = workspace_of(place, plan.workspace_bytes());
  if (mask.data) copy_mask(place, plan, mask_in(memory, plan), mask.data, mask.bytes);
  expect_gradients(place, plan.options(), results, dx);
  detail::throw_on_error(rh_backward(plan.get(), &arguments.x, &arguments.parameters, dr, &results, dx,
                                     arguments.columns, memory));
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

// A new tensor in the shape of another, float32 of at least kLarge bytes, whose memory large_memory() keeps.
nb::object large_like(nb::handle shape) {
  const Tensor like(shape);
  return tensor_like(like, large_memory(sizeof(float) * static_cast<size_t>(like.count())), give_back);
}

// Forward, loss and, as in head_backward, gradients. Without pairs, what is given is checked and that is all.
void loss_gradients(const PlaceTuple& place, nb::handle x, const HeadTuple& head, const PairsTuple& pairs,
                    double normalizer, nb::handle loss, const nb::list& gradients, nb::handle input_gradient) {
  const HeadArguments of_head(x, head);
  rh_loss_arguments arguments{.struct_size = sizeof arguments,
                              .x = of_head.x,
                              .pairs = {},
                              .normalizer = normalizer,
                              .parameters = of_head.parameters,
                              .gradients = all_floats(gradients),
                              .rewards = nullptr,
                              .reward_gradient = nullptr,
                              .loss = floats(loss),
                              .input_gradient = floats(input_gradient),
                              .input_gradient_stride = of_head.columns};
  if (std::get<3>(pairs) == 0) return;
  const nb::gil_scoped_release released;
  const bool has_dx = arguments.input_gradient != nullptr;
  PlanOptions options = of_head.options(RH_PAIR_LOSS | (has_dx ? RH_INPUT_GRADIENT : RH_BACKWARD));
  options.max_pairs = std::get<3>(pairs);
  const Plan plan(context_of(place), options);
  const size_t of_list = PairList::bytes(pairs);
  const size_t of_rows = rounded_up(sizeof(float) * static_cast<size_t>(options.rows));
  const rh_workspace memory = workspace_of(place, of_list + 2 * of_rows + plan.workspace_bytes());
  const PairList list(pairs, options.rows, memory.data);
  const rh_workspace rewards = without(memory, of_list), gradient = without(rewards, of_rows);
  arguments.pairs = *list.get();
  arguments.rewards = static_cast<float*>(rewards.data);
  arguments.reward_gradient = static_cast<float*>(gradient.data);
  expect_gradients(place, options, arguments.gradients, arguments.input_gradient);
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
      const rh_workspace memory = workspace_of(place, plan.workspace_bytes());
      detail::throw_on_error(rh_adamw(plan.get(), &options, &p, &g, &m, &v, nullptr, memory));
    }
    done += 1;
  }
}

}  // namespace

void bind_kernels(nb::module_& module) {
  const auto released = nb::call_guard<nb::gil_scoped_release>();
  module.attr("HAS_CUDA") = REWARDHEAD_HAS_CUDA != 0;
  module.attr("LARGE") = kLarge;
  module.def("large_like", &large_like, "shape"_a);
  module.def("head_forward", &head_forward, "place"_a, "x"_a, "head"_a, "rewards"_a, "mask"_a.none());
  module.def("head_backward", &head_backward, "place"_a, "x"_a, "head"_a, "mask"_a, "reward_gradient"_a, "gradients"_a,
             "input_gradient"_a.none());
  module.def("pair_loss", &pair_loss, released);
  module.def("loss_gradients", &loss_gradients, "place"_a, "x"_a, "head"_a, "pairs"_a, "normalizer"_a, "loss"_a,
             "gradients"_a, "input_gradient"_a.none());
  module.def("adamw", &adamw, released);
}

}  // namespace rewardhead::python
