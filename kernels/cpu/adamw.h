// SPDX-License-Identifier: Apache-2.0
//
//   m = beta1 m + (1 - beta1) g      v = beta2 v + (1 - beta2) g^2      g scaled to the clipped global norm
//   p = (1 - lr decay) p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
//
// One pass over four arrays, 28 bytes an element: bound by memory, or for small heads by a division and a square root
// a vector. The global norm is a pass of its own: the update needs it whole before its first element.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/cpu/partial.h"
#include "kernels/workspace.h"

namespace rewardhead::kernels {
namespace {

constexpr int64_t kAdamwChunk = 1 << 14;    // elements of one task, at least
constexpr int64_t kAdamwTasks = 4;          // of a thread; many short ones keep the prefetcher from its streams
constexpr int64_t kSquaresChunk = 1 << 12;  // elements summed in fp32 lanes before fp64 takes over

template <class V>
void adamw(const AdamwArguments& a, const Executor& executor) {
  using Vector = typename V::Vector;
  const double bias1 = 1 - std::pow(a.beta1, static_cast<double>(a.step));
  const double bias2 = 1 - std::pow(a.beta2, static_cast<double>(a.step));
  const auto set = [](double value) { return V::set(static_cast<float>(value)); };
  const Vector gradient_scale = set(a.gradient_scale);
  const Vector keep1 = set(a.beta1), take1 = set(1 - a.beta1);
  const Vector keep2 = set(a.beta2), take2 = set(1 - a.beta2);
  const Vector keep = set(1 - a.learning_rate * a.weight_decay);
  const Vector step = set(a.learning_rate / bias1);
  const Vector root_scale = set(1 / std::sqrt(bias2));
  const Vector epsilon = set(a.epsilon);
  const int64_t tasks = kAdamwTasks * executor.threads;
  const int64_t chunk = std::max(kAdamwChunk, ((a.count + tasks - 1) / tasks + V::lanes - 1) / V::lanes * V::lanes);
  executor.for_each((a.count + chunk - 1) / chunk, [&](int64_t task, int) {
    const int64_t begin = task * chunk, count = std::min(chunk, a.count - begin);
    float* parameter = a.parameter + begin;
    const float* gradient = a.gradient + begin;
    float* first_moment = a.first_moment + begin;
    float* second_moment = a.second_moment + begin;
    const auto update = [&](int64_t i, auto load, auto store) __attribute__((always_inline)) {
      const Vector g = V::mul(gradient_scale, load(gradient + i));
      const Vector m = V::fma(keep1, load(first_moment + i), V::mul(take1, g));
      const Vector v = V::fma(keep2, load(second_moment + i), V::mul(take2, V::mul(g, g)));
      const Vector denominator = V::fma(V::sqrt(v), root_scale, epsilon);
      const Vector decayed = V::mul(keep, load(parameter + i));
      store(parameter + i, V::sub(decayed, V::div(V::mul(step, m), denominator)));
      store(first_moment + i, m);
      store(second_moment + i, v);
    };
    int64_t i = 0;
    for (; i + V::lanes <= count; i += V::lanes) {
      update(
          i, [](const float* from) { return V::load(from); }, V::store);
    }
    const int64_t left = count - i;
    if (left == 0) return;
    update(
        i, [&](const float* from) { return load_partial<V>(from, left); },
        [&](float* to, Vector value) { store_partial<V>(to, value, left); });
  });
}

inline size_t sum_of_squares_workspace(int64_t count) {
  Carver carver(nullptr);
  carver.take<double>((count + kSquaresChunk - 1) / kSquaresChunk);
  return carver.bytes();
}

template <class V>
double sum_of_squares(const float* values, int64_t count, const Executor& executor, void* workspace) {
  const int64_t chunks = (count + kSquaresChunk - 1) / kSquaresChunk;
  double* sums = Carver(workspace).take<double>(chunks);
  executor.for_each(chunks, [&](int64_t chunk, int) {
    const int64_t end = std::min(count, (chunk + 1) * kSquaresChunk);
    // Four sums, so that the additions of one do not wait for each other.
    typename V::Vector lanes[4] = {V::set(0.0f), V::set(0.0f), V::set(0.0f), V::set(0.0f)};
    const auto add = [](typename V::Vector& sum, typename V::Vector value) { sum = V::fma(value, value, sum); };
    int64_t i = chunk * kSquaresChunk;
    for (; i + 4 * V::lanes <= end; i += 4 * V::lanes) {
      for (int j = 0; j < 4; ++j) add(lanes[j], V::load(values + i + j * V::lanes));
    }
    for (; i < end; i += V::lanes) add(lanes[0], load_partial<V>(values + i, end - i));
    sums[chunk] = V::sum(V::add(V::add(lanes[0], lanes[1]), V::add(lanes[2], lanes[3])));
  });
  double sum = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += sums[chunk];
  return sum;
}

}  // namespace
}  // namespace rewardhead::kernels
