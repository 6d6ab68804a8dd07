// SPDX-License-Identifier: Apache-2.0
#include "bench/problem.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <span>
#include <utility>

namespace rewardhead::bench {
namespace {

// Repetitions of a benchmark may each make their problem anew, up to 384 million values, so the values are drawn once.
constexpr size_t kBlock = 1'048'573;  // a prime

const std::vector<float>& normal_block() {
  static const std::vector<float> block = [] {
    std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    std::vector<float> values(kBlock);
    for (float& v : values) v = normal(generator);
    return values;
  }();
  return block;
}

uint16_t to_bf16(float value) {  // to nearest, ties to even
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// The b1 that makes `share` of the units active, where z - b1 is normal with variance 1/3: a sum of `input` products of
// a standard normal and a uniform in +-1/sqrt(input).
float bias_for(double share) {
  double low = -10, high = 10;
  while (high - low > 1e-6) {
    const double middle = (low + high) / 2;
    (std::erfc(-middle / std::sqrt(2.0)) / 2 < share ? low : high) = middle;
  }
  return static_cast<float>(low / std::sqrt(3.0));
}

}  // namespace

void fill_normal(Array<float>& values, float scale) {
  const std::vector<float>& block = normal_block();
  for (size_t done = 0; done < values.size(); done += kBlock) {
    const size_t count = std::min(kBlock, values.size() - done);
    std::transform(block.begin(), block.begin() + static_cast<std::ptrdiff_t>(count), &values[done],
                   [scale](float v) { return scale * v; });
  }
}

Tensors::Tensors(const Workload& workload)
    : values(static_cast<size_t>(workload.parameters())),
      w1_size_(workload.members * workload.input * std::max<int64_t>(1, workload.hidden)),
      hidden_size_(workload.members * workload.hidden) {}

rh_tensors Tensors::pointers() const {
  float* w1 = const_cast<float*>(values.data());
  if (hidden_size_ == 0) return {w1, nullptr, nullptr, nullptr};
  return {w1, w1 + w1_size_, w1 + w1_size_ + hidden_size_, w1 + w1_size_ + 2 * hidden_size_};
}

Problem::Problem(const Workload& the_workload) : workload(the_workload) {
  if (workload.scores()) {
    Array<float> normal(static_cast<size_t>(workload.rows * workload.input));
    fill_normal(normal, 1);
    if (workload.dtype == RH_BF16) {
      x_bf16.resize(normal.size());
      std::ranges::transform(normal, x_bf16.begin(), to_bf16);
    } else {
      x = std::move(normal);
    }
  }
  std::mt19937 generator(2);
  if (workload.input > 0) {
    parameters = Tensors(workload);
    const auto uniform = [&](std::span<float> values, int64_t fan_in) {
      const float bound = 1 / std::sqrt(static_cast<float>(fan_in));
      for (float& v : values) v = bound * (static_cast<float>(generator()) * 0x1p-31f - 1);
    };
    uniform(parameters.values, workload.input);
    if (workload.hidden > 0) {
      const rh_tensors p = parameters.pointers();
      const size_t units = static_cast<size_t>(workload.members * workload.hidden);
      uniform({p.w2, units + static_cast<size_t>(workload.members)}, workload.hidden);  // and b2, which follows
      if (workload.density != 0) std::fill_n(p.b1, units, bias_for(workload.density / 100.0));
    }
  }
  if (workload.has_loss() && !workload.adjacent()) {
    const uint32_t rows = static_cast<uint32_t>(workload.rows);
    for (int64_t p = 0; p < workload.pairs; ++p) {
      const uint32_t chosen_row = static_cast<uint32_t>(generator()) % rows;
      chosen.push_back(static_cast<int32_t>(chosen_row));
      rejected.push_back(static_cast<int32_t>((chosen_row + 1 + generator() % (rows - 1)) % rows));
    }
  }
}

}  // namespace rewardhead::bench
