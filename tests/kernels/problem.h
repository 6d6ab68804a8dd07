// SPDX-License-Identifier: Apache-2.0
//
// One head with its inputs, what a kernel makes of it, and what the reference says in fp64.
#pragma once

#include <functional>

#include "kernels/reference/reference.h"
#include "tests/kernels/testing.h"

namespace rewardhead::kernels::testing {

// The tensors of a head; those that a linear head has not are empty, and null in the views.
template <class Float>
struct Tensors {
  Tensors(int64_t input, int64_t hidden)
      : hidden_units(hidden), w1(std::max<int64_t>(hidden, 1) * input), b1(hidden), w2(hidden), b2(hidden ? 1 : 0) {}

  HeadTensors<Float> view() {
    if (hidden_units == 0) return {w1.data(), nullptr, nullptr, nullptr};
    return {w1.data(), b1.data(), w2.data(), b2.data()};
  }
  HeadTensors<const Float> view() const {
    const HeadTensors<Float> v = const_cast<Tensors*>(this)->view();
    return {v.w1, v.b1, v.w2, v.b2};
  }
  // The four tensors in their order.
  template <class Body>
  void each(const Body& body) const {
    body("w1", w1);
    body("b1", b1);
    body("w2", w2);
    body("b2", b2);
  }

  int64_t hidden_units;
  Guarded<Float> w1, b1, w2, b2;
};

inline Tensors<double> widened(const Tensors<float>& from, int64_t input) {
  Tensors<double> to(input, from.hidden_units);
  std::copy(from.w1.begin(), from.w1.end(), to.w1.begin());
  std::copy(from.b1.begin(), from.b1.end(), to.b1.begin());
  std::copy(from.w2.begin(), from.w2.end(), to.w2.begin());
  std::copy(from.b2.begin(), from.b2.end(), to.b2.begin());
  return to;
}

struct Sizes {
  int64_t rows, input, hidden;
  Dtype dtype = Dtype::f32;
  int64_t x_gap = 0;   // elements between the rows of X
  int64_t dx_gap = 0;  // and of dX
};

inline std::ostream& operator<<(std::ostream& out, const Sizes& s) {
  return out << "rows " << s.rows << " input " << s.input << " hidden " << s.hidden << ' ' << dtype_name(s.dtype)
             << " gaps " << s.x_gap << ' ' << s.dx_gap;
}

struct Problem {
  explicit Problem(const Sizes& s)
      : sizes(s),
        x_stride(s.input + s.x_gap),
        x(((s.rows - 1) * x_stride + s.input) * element_bytes(s.dtype)),
        head(s.input, s.hidden),
        reward_gradient(s.rows) {}

  // X from `value(row, k)`, then every parameter and dr from `next()`. The gaps of X stay NaN.
  void fill(const std::function<double(int64_t, int64_t)>& value, const std::function<double()>& next) {
    for (int64_t row = 0; row < sizes.rows; ++row) {
      for (int64_t k = 0; k < sizes.input; ++k) set_x(row, k, static_cast<float>(value(row, k)));
    }
    for (Guarded<float>* tensor : {&head.w1, &head.b1, &head.w2, &head.b2, &reward_gradient}) {
      for (float& element : *tensor) element = static_cast<float>(next());
    }
  }
  void set_x(int64_t row, int64_t k, float value) {
    store_element(sizes.dtype, value, x.data() + (row * x_stride + k) * element_bytes(sizes.dtype));
  }
  float get_x(int64_t row, int64_t k) const {
    return load_element(sizes.dtype, x.data() + (row * x_stride + k) * element_bytes(sizes.dtype));
  }
  Matrix matrix() const { return {x.data(), sizes.dtype, sizes.rows, sizes.input, x_stride}; }
  Shape shape() const { return {sizes.rows, sizes.input, sizes.hidden, 0, true}; }

  Sizes sizes;
  int64_t x_stride;
  Guarded<unsigned char> x;
  Tensors<float> head;
  Guarded<float> reward_gradient;
};

// What one forward and one backward write, every byte of it NaN before. With an empty mask the forward only scores.
struct Results {
  explicit Results(const Sizes& s)
      : rewards(s.rows),
        mask(mask_blocks(s.rows) * s.hidden),
        activations(keeps_activations(s.rows, s.input) ? mask.size() * activation_rows(s.rows) : 0),
        gradient(s.input, s.hidden),
        dx((s.rows - 1) * (s.input + s.dx_gap) + s.input) {}

  float* kept_activations() { return activations.size() ? activations.data() : nullptr; }

  Guarded<float> rewards;
  Guarded<uint64_t> mask;
  Guarded<float> activations;  // empty where a plan would not keep them
  Tensors<float> gradient;
  Guarded<float> dx;
};

// In a plan for `plan_rows`, or for those of the problem.
inline void run_forward(const KernelTable& table, const Problem& p, float* rewards, uint64_t* mask,
                        const Executor& executor, int64_t plan_rows = 0, float* activations = nullptr) {
  Workspace workspace = make_workspace(table.forward_workspace(p.shape(), executor.threads));
  table.forward({p.matrix(), p.sizes.hidden, p.head.view(), rewards, p.sizes.hidden ? mask : nullptr, 1,
                 std::max(plan_rows, p.sizes.rows), activations},
                executor, workspace.data());
}

inline void run_backward(const KernelTable& table, const Problem& p, const uint64_t* mask, HeadTensors<float> gradient,
                         float* dx, const Executor& executor, const float* activations = nullptr) {
  Workspace workspace = make_workspace(table.backward_workspace(p.shape(), executor.threads));
  table.backward({p.matrix(), p.sizes.hidden, p.head.view(), p.sizes.hidden ? mask : nullptr, p.reward_gradient.data(),
                  gradient, dx, p.sizes.input + p.sizes.dx_gap, 1, p.sizes.rows, activations},
                 executor, workspace.data());
}

// Forward, then backward under the mask that it wrote, as a plan for so many rows does it.
inline Results run(const KernelTable& table, const Problem& p, const Executor& executor) {
  Results results(p.sizes);
  run_forward(table, p, results.rewards.data(), results.mask.data(), executor, 0, results.kept_activations());
  run_backward(table, p, results.mask.data(), results.gradient.view(), results.dx.data(), executor,
               results.kept_activations());
  return results;
}

inline bool same_bits(const Results& a, const Results& b) {
  return same_bits(a.rewards, b.rewards) && same_bits(a.mask, b.mask) && same_bits(a.gradient.w1, b.gradient.w1) &&
         same_bits(a.gradient.b1, b.gradient.b1) && same_bits(a.gradient.w2, b.gradient.w2) &&
         same_bits(a.gradient.b2, b.gradient.b2) && same_bits(a.dx, b.dx);
}

// The reference in fp64 on the widened inputs; dx is dense. `magnitude` replaces every product by its absolute value:
// the sums that rounding errors are proportional to.
struct Expected {
  Expected(const Problem& p, const uint64_t* given_mask, bool magnitude)
      : rewards(p.sizes.rows),
        mask(mask_blocks(p.sizes.rows) * p.sizes.hidden),
        gradient(p.sizes.input, p.sizes.hidden),
        dx(p.sizes.rows * p.sizes.input) {
    const auto [rows, input, hidden, dtype, x_gap, dx_gap] = p.sizes;
    const auto of = [&](double value) { return magnitude ? std::abs(value) : value; };
    std::vector<double> x(rows * input), dr(rows), sums(input);
    for (int64_t row = 0; row < rows; ++row) {
      dr[row] = of(p.reward_gradient[row]);
      for (int64_t k = 0; k < input; ++k) x[row * input + k] = of(p.get_x(row, k));
    }
    Tensors<double> head = widened(p.head, input);
    for (Guarded<double>* tensor : {&head.w1, &head.b1, &head.w2, &head.b2}) {
      for (double& element : *tensor) element = of(element);
    }
    const Tensors<double>& fixed = head;
    reference::forward(x.data(), input, rows, input, hidden, fixed.view(), rewards.data(), mask.data());
    const uint64_t* used = given_mask ? given_mask : mask.data();
    reference::parameter_gradients(x.data(), input, rows, input, hidden, fixed.view(), used,
                                   static_cast<const double*>(dr.data()), gradient.view(), sums.data());
    reference::input_gradient(rows, input, hidden, fixed.view(), used, static_cast<const double*>(dr.data()), dx.data(),
                              input, sums.data());
    for (int64_t h = 0; h < hidden; ++h) {
      double sum = 0;
      for (int64_t row = 0; row < rows; ++row) {
        if (!(used[row / kMaskRows * hidden + h] >> row % kMaskRows & 1)) continue;
        double z = head.b1[h];
        for (int64_t k = 0; k < input; ++k) z += head.w1[h * input + k] * x[row * input + k];
        sum += dr[row] * z;
      }
      w2_by_activations.push_back(sum);
    }
  }

  std::vector<double> w2_by_activations;  // the gradient of w2 by its definition; differs where inputs are not finite
  std::vector<double> rewards;
  std::vector<uint64_t> mask;
  Tensors<double> gradient;
  std::vector<double> dx;
};

}  // namespace rewardhead::kernels::testing
