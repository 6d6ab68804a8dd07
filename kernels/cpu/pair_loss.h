// SPDX-License-Identifier: Apache-2.0
//
//   d = r[chosen] - r[rejected] - margin
//   L = sum_p weight (label softplus(-d) + (1 - label) softplus(d)) / normalizer
//   dL/dd = weight ((1 - label) sigmoid(d) - label sigmoid(-d)) / normalizer, to chosen with +, to rejected with -
//
// Chunks of kPairChunk pairs are shared by the threads: gather, softplus and sigmoid in vectors, the slopes stored and
// the loss summed by chunk, in fp32 within a lane and fp64 beyond. The scatter then runs over the pairs in their order
// on one thread, so that a row's gradient is a fixed sum without atomics, and in fp64, since a row may be in any number
// of pairs. Bound by the four divisions of softplus.h where the rewards lie in cache, by the gather where they do not.
#pragma once

#include <algorithm>

#include "kernels/cpu/partial.h"
#include "kernels/cpu/softplus.h"
#include "kernels/workspace.h"

namespace rewardhead::kernels {
namespace {

constexpr int64_t kPairChunk = 1024;

struct PairLossScratch {
  float* slopes;   // [pairs]: dL/dd
  double* losses;  // [chunks]
  double* sums;    // [rows]: dL/dr
  size_t bytes;

  static PairLossScratch carve(void* workspace, int64_t rows, int64_t pairs) {
    Carver carver(workspace);
    PairLossScratch scratch;
    scratch.slopes = carver.take<float>(pairs);
    scratch.losses = carver.take<double>((pairs + kPairChunk - 1) / kPairChunk);
    scratch.sums = carver.take<double>(rows);
    scratch.bytes = carver.bytes();
    return scratch;
  }
};

template <class V>
double pair_chunk(const PairLossArguments& a, int64_t first, int64_t end, float* slopes) {
  using Vector = typename V::Vector;
  const Vector one = V::set(1.0f);
  const Vector scale = V::set(static_cast<float>(1 / a.normalizer));
  Vector losses = V::set(0.0f);
  for (int64_t p = first; p < end; p += V::lanes) {
    const int64_t count = std::min<int64_t>(V::lanes, end - p);
    alignas(kAlignment) float differences[V::lanes] = {};
    alignas(kAlignment) float weights[V::lanes] = {};  // 0 beyond the last pair
    for (int64_t i = 0; i < count; ++i) {
      const int64_t winner = a.chosen ? a.chosen[p + i] : 2 * (p + i);
      const int64_t loser = a.chosen ? a.rejected[p + i] : 2 * (p + i) + 1;
      differences[i] = a.rewards[winner] - a.rewards[loser];
      weights[i] = a.weight ? a.weight[p + i] : 1.0f;
    }
    Vector d = V::load(differences);
    if (a.margin) d = V::sub(d, load_partial<V>(a.margin + p, count));
    const Vector weight = V::load(weights);
    const Logistic<V> f = logistic<V>(d);
    Vector loss = f.softplus_negative;
    Vector slope = V::sub(V::set(0.0f), f.sigmoid_negative);
    if (a.label) {
      const Vector label = load_partial<V>(a.label + p, count);
      const Vector other = V::sub(one, label);
      loss = V::add(V::mul(label, f.softplus_negative), V::mul(other, f.softplus_positive));
      slope = V::sub(V::mul(other, f.sigmoid_positive), V::mul(label, f.sigmoid_negative));
    }
    losses = V::fma(weight, loss, losses);
    store_partial<V>(slopes + p, V::mul(V::mul(weight, slope), scale), count);
  }
  alignas(kAlignment) float lanes[V::lanes];
  V::store(lanes, losses);
  double sum = 0;
  for (int i = 0; i < V::lanes; ++i) sum += lanes[i];
  return sum;
}

template <class V>
void pair_loss(const PairLossArguments& a, const Executor& executor, void* workspace) {
  const PairLossScratch scratch = PairLossScratch::carve(workspace, a.rows, a.pairs);
  const int64_t chunks = (a.pairs + kPairChunk - 1) / kPairChunk;
  executor.for_each(chunks, [&](int64_t chunk, int) {
    scratch.losses[chunk] =
        pair_chunk<V>(a, chunk * kPairChunk, std::min(a.pairs, (chunk + 1) * kPairChunk), scratch.slopes);
  });
  double loss = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) loss += scratch.losses[chunk];
  a.loss[0] = static_cast<float>(loss / a.normalizer);
  if (!a.reward_gradient) return;
  std::fill_n(scratch.sums, a.rows, 0.0);
  for (int64_t p = 0; p < a.pairs; ++p) {
    scratch.sums[a.chosen ? a.chosen[p] : 2 * p] += scratch.slopes[p];
    scratch.sums[a.chosen ? a.rejected[p] : 2 * p + 1] -= scratch.slopes[p];
  }
  for (int64_t row = 0; row < a.rows; ++row) a.reward_gradient[row] = static_cast<float>(scratch.sums[row]);
}

}  // namespace
}  // namespace rewardhead::kernels
