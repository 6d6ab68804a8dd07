// SPDX-License-Identifier: Apache-2.0
//
//   d = r[chosen] - r[rejected] - margin
//   L = sum_p weight (label softplus(-d) + (1 - label) softplus(d)) / normalizer
//   dL/dd = weight ((1 - label) sigmoid(d) - label sigmoid(-d)) / normalizer, to chosen with +, to rejected with -
//
// The loss is summed in fp32 within a lane of kPairChunk pairs, and in fp64 beyond. Adjacent rows are read and written
// as they lie. A list of pairs is cut into slices, whose number depends on rows and pairs alone: each gathers, computes
// and scatters a chunk at a time, in the order of its pairs, to its own sums over rows, in fp64 since a row may be in
// any number of pairs. The slices' sums are added in ascending order: no atomics, the same bits for any threads.
// Bound by the scatter, whose additions to one row wait for each other.
#pragma once

#include <algorithm>

#include "kernels/cpu/partial.h"
#include "kernels/cpu/softplus.h"
#include "kernels/workspace.h"

namespace rewardhead::kernels {
namespace {

constexpr int64_t kPairChunk = 1024;
constexpr int64_t kPairSlices = 8;   // at most, and one for as many pairs as there are rows
constexpr int64_t kPairRows = 4096;  // of one task that adds slices

constexpr int64_t pair_chunks(int64_t pairs) { return (pairs + kPairChunk - 1) / kPairChunk; }
constexpr int64_t pair_slices(int64_t rows, int64_t pairs) {
  return std::clamp(std::min(pairs / rows, pair_chunks(pairs)), int64_t{1}, kPairSlices);
}

struct PairLossScratch {
  double* losses;  // [chunks]
  double* sums;    // [slices, rows]: dL/dr of each slice
  size_t bytes;

  // Fewer rows than planned may make more slices of a call, but no more sums than pairs or one slice has.
  static PairLossScratch carve(void* workspace, int64_t rows, int64_t pairs) {
    Carver carver(workspace);
    PairLossScratch scratch;
    scratch.losses = carver.take<double>(pair_chunks(pairs));
    scratch.sums = carver.take<double>(std::max(rows, std::min(pairs, kPairSlices * rows)));
    scratch.bytes = carver.bytes();
    return scratch;
  }
};

// dL/dd of up to V::lanes pairs from `p` on, d as yet without the margin, `scale` for 1 / normalizer; the losses are
// added to `losses`.
template <class V>
[[gnu::always_inline]] inline typename V::Vector pair_slopes(const PairLossArguments& a, int64_t p, int64_t count,
                                                             typename V::Vector d, typename V::Vector scale,
                                                             typename V::Vector& losses) {
  using Vector = typename V::Vector;
  const Vector one = V::set(1.0f);
  if (a.margin) d = V::sub(d, load_partial<V>(a.margin + p, count));
  const Logistic<V> f = logistic<V>(d);
  Vector loss = f.softplus_negative;
  Vector slope = V::sub(V::set(0.0f), f.sigmoid_negative);
  if (a.label) {
    const Vector label = load_partial<V>(a.label + p, count);
    const Vector other = V::sub(one, label);
    loss = V::add(V::mul(label, f.softplus_negative), V::mul(other, f.softplus_positive));
    slope = V::sub(V::mul(other, f.sigmoid_positive), V::mul(label, f.sigmoid_negative));
  }
  if (a.weight) {
    const Vector weight = load_partial<V>(a.weight + p, count);
    loss = V::mul(weight, loss);
    slope = V::mul(weight, slope);
  }
  if (count < V::lanes) {
    alignas(kAlignment) float lanes[V::lanes];
    V::store(lanes, loss);
    loss = load_partial<V>(static_cast<const float*>(lanes), count);
  }
  losses = V::add(losses, loss);
  return V::mul(slope, scale);
}

template <class V>
double sum_of_losses(typename V::Vector losses) {
  alignas(kAlignment) float lanes[V::lanes];
  V::store(lanes, losses);
  double sum = 0;
  for (int i = 0; i < V::lanes; ++i) sum += lanes[i];
  return sum;
}

// Of pairs (2p, 2p + 1), whose rewards' gradient goes to 2 count floats at `gradient` if that is not null.
template <class V>
double adjacent_pairs(const PairLossArguments& a, int64_t first, int64_t count, float* gradient) {
  using Vector = typename V::Vector;
  const Vector zero = V::set(0.0f), scale = V::set(static_cast<float>(1 / a.normalizer));
  Vector losses = zero;
  const auto step = [&](int64_t i, int64_t pairs) __attribute__((always_inline)) {
    const auto rewards = from_partial<V>(a.rewards + 2 * (first + i), 2 * pairs, V::split);
    const Vector slope = pair_slopes<V>(a, first + i, pairs, V::sub(rewards.first, rewards.second), scale, losses);
    if (!gradient) return;
    // Added to 0, as a list's are: -0 becomes 0.
    to_partial<V>(gradient + 2 * i, 2 * pairs, [&](float* to) {
      V::merge(to, {V::add(zero, slope), V::sub(zero, slope)});
    });
  };
  int64_t i = 0;
  for (; i + V::lanes <= count; i += V::lanes) step(i, V::lanes);
  if (i < count) step(i, count - i);
  return sum_of_losses<V>(losses);
}

// What pair_loss writes as the rewards' gradient of `count` rows from the even row `first` on.
template <class V>
void adjacent_slopes(const PairLossArguments& a, int64_t first, int64_t count, float* gradient) {
  const int64_t paired = std::clamp(2 * a.pairs - first, int64_t{0}, count);
  adjacent_pairs<V>(a, first / 2, paired / 2, gradient);
  std::fill_n(gradient + paired, count - paired, 0.0f);
}

template <class V>
void adjacent_loss(const PairLossArguments& a, const Executor& executor, double* losses) {
  executor.for_each(pair_chunks(a.pairs), [&](int64_t chunk, int) {
    const int64_t first = chunk * kPairChunk;
    losses[chunk] = adjacent_pairs<V>(a, first, std::min(kPairChunk, a.pairs - first),
                                      a.reward_gradient ? a.reward_gradient + 2 * first : nullptr);
  });
  if (a.reward_gradient) std::fill(a.reward_gradient + 2 * a.pairs, a.reward_gradient + a.rows, 0.0f);
}

template <class V>
void listed_loss(const PairLossArguments& a, const Executor& executor, const PairLossScratch& scratch) {
  const int64_t chunks = pair_chunks(a.pairs), slices = pair_slices(a.rows, a.pairs);
  const typename V::Vector scale = V::set(static_cast<float>(1 / a.normalizer));
  executor.for_each(slices, [&](int64_t slice, int) {
    double* sums = scratch.sums + slice * a.rows;
    if (a.reward_gradient) std::fill_n(sums, a.rows, 0.0);
    for (int64_t chunk = chunks * slice / slices; chunk < chunks * (slice + 1) / slices; ++chunk) {
      const int64_t first = chunk * kPairChunk, count = std::min(kPairChunk, a.pairs - first);
      const int32_t *chosen = a.chosen + first, *rejected = a.rejected + first;
      alignas(kAlignment) float values[kPairChunk];  // differences, then slopes
      for (int64_t i = 0; i < count; ++i) values[i] = a.rewards[chosen[i]] - a.rewards[rejected[i]];
      typename V::Vector losses = V::set(0.0f);
      for (int64_t i = 0; i < count; i += V::lanes) {
        const int64_t pairs = std::min<int64_t>(V::lanes, count - i);
        V::store(values + i, pair_slopes<V>(a, first + i, pairs, load_partial<V>(values + i, pairs), scale, losses));
      }
      scratch.losses[chunk] = sum_of_losses<V>(losses);
      if (!a.reward_gradient) continue;
      for (int64_t i = 0; i < count; ++i) {
        sums[chosen[i]] += values[i];
        sums[rejected[i]] -= values[i];
      }
    }
  });
  if (!a.reward_gradient) return;
  executor.for_each((a.rows + kPairRows - 1) / kPairRows, [&](int64_t task, int) {
    const int64_t end = std::min(a.rows, (task + 1) * kPairRows);
    for (int64_t row = task * kPairRows; row < end; ++row) {
      double sum = scratch.sums[row];
      for (int64_t slice = 1; slice < slices; ++slice) sum += scratch.sums[slice * a.rows + row];
      a.reward_gradient[row] = static_cast<float>(sum);
    }
  });
}

template <class V>
void pair_loss(const PairLossArguments& a, const Executor& executor, void* workspace) {
  const PairLossScratch scratch = PairLossScratch::carve(workspace, a.rows, a.pairs);
  if (a.chosen) {
    listed_loss<V>(a, executor, scratch);
  } else {
    adjacent_loss<V>(a, executor, scratch.losses);
  }
  double loss = 0;
  for (int64_t chunk = 0; chunk < pair_chunks(a.pairs); ++chunk) loss += scratch.losses[chunk];
  a.loss[0] = static_cast<float>(loss / a.normalizer);
}

}  // namespace
}  // namespace rewardhead::kernels
