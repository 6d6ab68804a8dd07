// SPDX-License-Identifier: Apache-2.0
//
//   r = X w      dw = dr^T X      dX = dr w^T                               X [rows, input]  w [input]
//
// Both products read X once and are bound by that: two flops an element. The forward keeps four vector sums a row,
// added in fixed order; the backward keeps the sums of 64 columns in registers over all rows, by blocks of 64 rows so
// that rounding errors do not grow with their number. Neither depends on threads or, for r, on other rows.
#pragma once

#include <algorithm>

#include "kernels/cpu/partial.h"
#include "kernels/workspace.h"

namespace rewardhead::kernels {
namespace {

constexpr int64_t kLinearRows = 64;     // of one forward task, and of one chain of the backward
constexpr int64_t kLinearColumns = 64;  // of one backward task

template <class V, class Element>
float dot(const Element* x, const float* w, int64_t count) {
  typename V::Vector sums[4] = {V::set(0.0f), V::set(0.0f), V::set(0.0f), V::set(0.0f)};
  int64_t k = 0;
  for (; k + 4 * V::lanes <= count; k += 4 * V::lanes) {
    for (int j = 0; j < 4; ++j) {
      sums[j] = V::fma(V::load(w + k + j * V::lanes), V::load(x + k + j * V::lanes), sums[j]);
    }
  }
  for (int j = 0; k < count; k += V::lanes, ++j) {
    sums[j] = V::fma(load_partial<V>(w + k, count - k), load_partial<V>(x + k, count - k), sums[j]);
  }
  return V::sum(V::add(V::add(sums[0], sums[1]), V::add(sums[2], sums[3])));
}

template <class V>
void linear_forward(const ForwardArguments& a, const Executor& executor) {
  with_element(a.x.dtype, [&](auto* element) {
    const auto* x = static_cast<decltype(element)>(a.x.data);
    executor.for_each((a.x.rows + kLinearRows - 1) / kLinearRows, [&](int64_t task, int) {
      const int64_t end = std::min(a.x.rows, (task + 1) * kLinearRows);
      for (int64_t row = task * kLinearRows; row < end; ++row) {
        a.rewards[row] = dot<V>(x + row * a.x.stride, a.head.w1, a.x.columns);
      }
    });
  });
}

template <class V>
void linear_backward(const BackwardArguments& a, const Executor& executor) {
  using Vector = typename V::Vector;
  constexpr int vectors = kLinearColumns / V::lanes;
  with_element(a.x.dtype, [&](auto* element) {
    const auto* x = static_cast<decltype(element)>(a.x.data);
    executor.for_each((a.x.columns + kLinearColumns - 1) / kLinearColumns, [&](int64_t task, int) {
      const int64_t first = task * kLinearColumns;
      const int64_t columns = std::min(kLinearColumns, a.x.columns - first);
      Vector sums[vectors];
      for (int v = 0; v < vectors; ++v) sums[v] = V::set(0.0f);
      for (int64_t block = 0; block < a.x.rows; block += kLinearRows) {
        Vector part[vectors];
        for (int v = 0; v < vectors; ++v) part[v] = V::set(0.0f);
        const int64_t end = std::min(a.x.rows, block + kLinearRows);
        for (int64_t row = block; row < end; ++row) {
          const Vector dr = V::set(a.reward_gradient[row]);
          const auto* features = x + row * a.x.stride + first;
          if (columns == kLinearColumns) {
            for (int v = 0; v < vectors; ++v) part[v] = V::fma(dr, V::load(features + v * V::lanes), part[v]);
          } else {
            for (int v = 0; v * V::lanes < columns; ++v) {
              const int64_t column = v * V::lanes;
              part[v] = V::fma(dr, load_partial<V>(features + column, columns - column), part[v]);
            }
          }
        }
        for (int v = 0; v < vectors; ++v) sums[v] = V::add(sums[v], part[v]);
      }
      for (int v = 0; v * V::lanes < columns; ++v) {
        store_partial<V>(a.gradient.w1 + first + v * V::lanes, sums[v], columns - v * V::lanes);
      }
    });
  });
  if (!a.input_gradient) return;
  executor.for_each((a.x.rows + kLinearRows - 1) / kLinearRows, [&](int64_t task, int) {
    const int64_t end = std::min(a.x.rows, (task + 1) * kLinearRows);
    for (int64_t row = task * kLinearRows; row < end; ++row) {
      const Vector dr = V::set(a.reward_gradient[row]);
      float* gradient = a.input_gradient + row * a.input_gradient_stride;
      for (int64_t k = 0; k < a.x.columns; k += V::lanes) {
        const int64_t count = a.x.columns - k;
        store_partial<V>(gradient + k, V::mul(dr, load_partial<V>(a.head.w1 + k, count)), count);
      }
    }
  });
}

}  // namespace
}  // namespace rewardhead::kernels
