// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/loops.h"

#include <bit>
#include <cmath>

namespace rewardhead::bench {

int64_t rows_per_block(const Workload& workload) {
  constexpr int64_t kWideBytes = int64_t{8} << 20, kScoredRows = 2048;
  if (workload.dtype != RH_F32) {
    return std::min(workload.rows, std::max<int64_t>(64, kWideBytes / (4 * workload.input)));
  }
  const bool only_scores = workload.operation == Operation::forward && workload.hidden > 0;
  return only_scores ? std::min(workload.rows, kScoredRows) : workload.rows;
}

Rows::Rows(const Problem& problem, int64_t per_block, int threads)
    : problem_(problem),
      threads_(threads),
      rows_(problem.workload.rows),
      per_block_(per_block),
      wide_(problem.x_bf16.empty() ? 0 : static_cast<size_t>(per_block_ * problem.workload.input)) {}

const float* Rows::forward(int64_t begin, int64_t count) {
  const int64_t input = problem_.workload.input;
  if (wide_.empty()) return problem_.x.data() + begin * input;
  const uint16_t* from = problem_.x_bf16.data() + begin * input;
#pragma omp parallel for num_threads(threads_) if (threads_ > 1)
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t k = row * input; k < (row + 1) * input; ++k) {
      wide_[k] = std::bit_cast<float>(static_cast<uint32_t>(from[k]) << 16);
    }
  }
  return wide_.data();
}

const float* Rows::backward(int64_t begin, int64_t count) {
  return !wide_.empty() && per_block_ >= rows_ ? wide_.data() : forward(begin, count);
}

void activate_and_score(const Workload& workload, const rh_tensors& parameters, const float* b1, float* z,
                        int64_t begin, int64_t count, float* rewards, int threads) {
  const int64_t hidden = workload.hidden, members = workload.members;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t m = 0; m < members; ++m) {
      float* a = z + (row * members + m) * hidden;
      const float* w2 = parameters.w2 + m * hidden;
      float sum = 0;
      if (b1 == nullptr) {
        for (int64_t h = 0; h < hidden; ++h) sum += a[h] * w2[h];
      } else {
        for (int64_t h = 0; h < hidden; ++h) {
          a[h] = std::max(a[h] + b1[m * hidden + h], 0.0f);
          sum += a[h] * w2[h];
        }
      }
      rewards[m * workload.rows + begin + row] = sum + parameters.b2[m];
    }
  }
}

void hidden_gradients(const Workload& workload, const rh_tensors& parameters, const float* a,
                      const float* reward_gradient, int64_t begin, int64_t count, float* dz,
                      const rh_tensors& gradients, int threads) {
  // Threads take columns, so that none adds to another's sums.
  constexpr int64_t kColumns = 128;
  const int64_t hidden = workload.hidden, width = workload.members * hidden;
  const int64_t blocks = (hidden + kColumns - 1) / kColumns;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t task = 0; task < workload.members * blocks; ++task) {
    const int64_t m = task / blocks, first = m * hidden + task % blocks * kColumns;
    const int64_t columns = std::min(kColumns, (m + 1) * hidden - first);
    const float* dr = reward_gradient + m * workload.rows + begin;
    const float* w2 = parameters.w2 + first;
    float db1[kColumns] = {}, dw2[kColumns] = {};
    for (int64_t row = 0; row < count; ++row) {
      const float* from = a + row * width + first;
      float* to = dz + row * width + first;
      for (int64_t h = 0; h < columns; ++h) {
        to[h] = from[h] > 0 ? dr[row] * w2[h] : 0.0f;
        db1[h] += to[h];
        dw2[h] += dr[row] * from[h];
      }
    }
    for (int64_t h = 0; h < columns; ++h) {
      gradients.b1[first + h] = (begin == 0 ? 0 : gradients.b1[first + h]) + db1[h];
      gradients.w2[first + h] = (begin == 0 ? 0 : gradients.w2[first + h]) + dw2[h];
    }
  }
  for (int64_t m = 0; m < workload.members; ++m) {
    float sum = begin == 0 ? 0 : gradients.b2[m];
    for (int64_t row = 0; row < count; ++row) sum += reward_gradient[m * workload.rows + begin + row];
    gradients.b2[m] = sum;
  }
}

void composed_pair_loss(const Problem& problem, Results& results) {
  // The pairs of a block gathered first, so that the exponentials are vectorised.
  constexpr int64_t kBlock = 512;
  const Workload& w = problem.workload;
  const float scale = 1 / static_cast<float>(w.pairs);
  const bool adjacent = w.adjacent();
  for (int64_t m = 0; m < w.members; ++m) {
    const float* r = results.rewards.data() + m * w.rows;
    float* dr = results.reward_gradient.data() + m * w.rows;
    if (!adjacent) std::fill_n(dr, w.rows, 0.0f);
    double total = 0;
    for (int64_t begin = 0; begin < w.pairs; begin += kBlock) {
      const int64_t count = std::min(kBlock, w.pairs - begin);
      float d[kBlock], slope[kBlock];
      for (int64_t i = 0; i < count; ++i) {
        d[i] = adjacent ? r[2 * (begin + i)] - r[2 * (begin + i) + 1]
                        : r[problem.chosen[begin + i]] - r[problem.rejected[begin + i]];
      }
      float sum = 0;
      for (int64_t i = 0; i < count; ++i) {
        const float e = std::exp(-std::abs(d[i]));
        sum += std::max(-d[i], 0.0f) + std::log1p(e);
        slope[i] = -scale * (d[i] >= 0 ? e : 1.0f) / (1 + e);
      }
      total += sum;
      for (int64_t i = 0; i < count; ++i) {
        if (adjacent) {
          dr[2 * (begin + i)] = slope[i];
          dr[2 * (begin + i) + 1] = -slope[i];
        } else {
          dr[problem.chosen[begin + i]] += slope[i];
          dr[problem.rejected[begin + i]] -= slope[i];
        }
      }
    }
    results.loss[m] = static_cast<float>(total * scale);
  }
}

}  // namespace rewardhead::bench
