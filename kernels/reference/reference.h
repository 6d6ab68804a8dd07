// SPDX-License-Identifier: Apache-2.0
//
// The executable specification: every formula of kernels/README.md as plain loops, accumulated in fp64.
// `Element` is the storage type of X; `Real` that of parameters, rewards and gradients: float behind the kernel
// table, double where the tests take finite differences. Scratch memory comes from the caller.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/kernel_table.h"
#include "kernels/storage.h"

namespace rewardhead::kernels::reference {

inline double widen(double value) { return value; }
template <class Element>
double widen(Element value) {
  return to_float(value);
}

inline double sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }
inline double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

// `units`: words of one block of rows.
inline bool is_active(const uint64_t* mask, int64_t units, int64_t row, int64_t unit) {
  return mask[row / kMaskRows * units + unit] >> (row % kMaskRows) & 1;
}

// One member of an ensemble at a time: the pointers are that member's, and of the mask's words, [mask_blocks(rows),
// members, hidden], only those are touched that `mask` reaches in steps of members * hidden.

// r = w2 . relu(W1 x + b1) + b2 and the mask !(z <= 0); hidden 0: r = w . x. `mask` may be null.
template <class Element, class Real>
void forward(const Element* x, int64_t stride, int64_t rows, int64_t input, int64_t hidden,
             const HeadTensors<const Real>& head, Real* rewards, uint64_t* mask, int64_t members = 1) {
  const int64_t units = members * hidden;
  for (int64_t block = 0; mask && block < mask_blocks(rows); ++block) {
    std::fill_n(mask + block * units, hidden, uint64_t{0});
  }
  for (int64_t row = 0; row < rows; ++row) {
    const Element* features = x + row * stride;
    double reward = hidden ? head.b2[0] : 0.0;
    for (int64_t h = 0; h < hidden; ++h) {
      double z = head.b1[h];
      for (int64_t k = 0; k < input; ++k) z += widen(features[k]) * head.w1[h * input + k];
      const bool active = !(z <= 0);
      reward += head.w2[h] * (active ? z : 0);  // also where inactive: a NaN in w2 is not hidden
      if (mask && active) mask[row / kMaskRows * units + h] |= uint64_t{1} << (row % kMaskRows);
    }
    if (hidden == 0) {
      for (int64_t k = 0; k < input; ++k) reward += widen(features[k]) * head.w1[k];
    }
    rewards[row] = static_cast<Real>(reward);
  }
}

// L = sum_p weight (label softplus(-d) + (1 - label) softplus(d)) / normalizer,  d = r[chosen] - r[rejected] - margin
// dL/dd = weight ((1 - label) sigmoid(d) - label sigmoid(-d)) / normalizer, added for chosen, subtracted for rejected.
// `sums` [rows] is scratch; gradient may be null.
template <class Real>
double pair_loss(const Real* rewards, int64_t rows, int64_t pairs, const int32_t* chosen, const int32_t* rejected,
                 const float* margin, const float* weight, const float* label, double normalizer, Real* gradient,
                 double* sums) {
  std::fill_n(sums, rows, 0.0);
  double loss = 0;
  for (int64_t p = 0; p < pairs; ++p) {
    const int64_t winner = chosen ? chosen[p] : 2 * p;
    const int64_t loser = chosen ? rejected[p] : 2 * p + 1;
    const double d = static_cast<double>(rewards[winner]) - rewards[loser] - (margin ? margin[p] : 0);
    const double w = weight ? weight[p] : 1;
    const double y = label ? label[p] : 1;
    loss += w * (y * softplus(-d) + (1 - y) * softplus(d));
    const double slope = w * ((1 - y) * sigmoid(d) - y * sigmoid(-d)) / normalizer;
    sums[winner] += slope;
    sums[loser] -= slope;
  }
  if (gradient) {
    for (int64_t row = 0; row < rows; ++row) gradient[row] = static_cast<Real>(sums[row]);
  }
  return loss / normalizer;
}

// G = (mask o dr)^T X,  g = sum_rows mask o dr;
// dW1 = diag(w2) G,  db1 = w2 o g,  dw2[h] = <W1[h], G[h]> + b1[h] g[h],  db2 = sum dr;  linear: dw = dr^T X.
// `sums` [input] is scratch.
template <class Element, class Real>
void parameter_gradients(const Element* x, int64_t stride, int64_t rows, int64_t input, int64_t hidden,
                         const HeadTensors<const Real>& head, const uint64_t* mask, const Real* reward_gradient,
                         const HeadTensors<Real>& gradient, double* sums, int64_t members = 1) {
  for (int64_t h = 0; h < std::max<int64_t>(hidden, 1); ++h) {
    std::fill_n(sums, input, 0.0);
    double total = 0;
    for (int64_t row = 0; row < rows; ++row) {
      if (hidden && !is_active(mask, members * hidden, row, h)) continue;
      const double dr = reward_gradient[row];
      total += dr;
      for (int64_t k = 0; k < input; ++k) sums[k] += dr * widen(x[row * stride + k]);
    }
    const double outer = hidden ? head.w2[h] : 1.0;
    for (int64_t k = 0; k < input; ++k) gradient.w1[h * input + k] = static_cast<Real>(outer * sums[k]);
    if (hidden == 0) return;
    double inner = head.b1[h] * total;
    for (int64_t k = 0; k < input; ++k) inner += head.w1[h * input + k] * sums[k];
    gradient.b1[h] = static_cast<Real>(outer * total);
    gradient.w2[h] = static_cast<Real>(inner);
  }
  double total = 0;
  for (int64_t row = 0; row < rows; ++row) total += reward_gradient[row];
  gradient.b2[0] = static_cast<Real>(total);
}

// dX = diag(dr) mask (diag(w2) W1);  linear: dX = dr w^T. `sums` [input] is scratch. `add`: to what is there.
template <class Real>
void input_gradient(int64_t rows, int64_t input, int64_t hidden, const HeadTensors<const Real>& head,
                    const uint64_t* mask, const Real* reward_gradient, Real* gradient, int64_t stride, double* sums,
                    int64_t members = 1, bool add = false) {
  for (int64_t row = 0; row < rows; ++row) {
    std::fill_n(sums, input, 0.0);
    for (int64_t h = 0; h < hidden; ++h) {
      if (!is_active(mask, members * hidden, row, h)) continue;
      const double outer = head.w2[h];
      for (int64_t k = 0; k < input; ++k) sums[k] += outer * head.w1[h * input + k];
    }
    if (hidden == 0) std::copy_n(head.w1, input, sums);
    Real* to = gradient + row * stride;
    for (int64_t k = 0; k < input; ++k) to[k] = static_cast<Real>((add ? to[k] : 0) + reward_gradient[row] * sums[k]);
  }
}

inline double sum_of_squares(const float* values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += static_cast<double>(values[i]) * values[i];
  return sum;
}

// One step of AdamW: Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019, algorithm 2, with the
// schedule multiplier folded into the learning rate, as torch.optim.AdamW has it.
inline void adamw(const AdamwArguments& a) {
  const double bias1 = 1 - std::pow(a.beta1, static_cast<double>(a.step));
  const double bias2 = 1 - std::pow(a.beta2, static_cast<double>(a.step));
  for (int64_t i = 0; i < a.count; ++i) {
    const double gradient = a.gradient_scale * a.gradient[i];
    const double m = a.beta1 * a.first_moment[i] + (1 - a.beta1) * gradient;
    const double v = a.beta2 * a.second_moment[i] + (1 - a.beta2) * gradient * gradient;
    const double decayed = (1 - a.learning_rate * a.weight_decay) * a.parameter[i];
    a.parameter[i] = static_cast<float>(decayed - a.learning_rate * (m / bias1) / (std::sqrt(v / bias2) + a.epsilon));
    a.first_moment[i] = static_cast<float>(m);
    a.second_moment[i] = static_cast<float>(v);
  }
}

}  // namespace rewardhead::kernels::reference
