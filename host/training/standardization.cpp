// SPDX-License-Identifier: Apache-2.0
#include "host/training/standardization.h"

#include <algorithm>
#include <cmath>

namespace rewardhead::training {

Standardization Standardization::of(std::span<const float> x, int64_t rows) {
  const size_t columns = x.size() / static_cast<size_t>(rows);
  const double n = static_cast<double>(rows);
  Standardization s{std::vector<double>(columns), std::vector<double>(columns)};
  // A constant column has deviation exactly 0: a multiple of a float by less than 2^29 is exact in fp64, so is its
  // mean.
  for (size_t first = 0; first < x.size(); first += columns) {
    for (size_t j = 0; j < columns; ++j) s.mean[j] += x[first + j];
  }
  for (double& mean : s.mean) mean /= n;
  for (size_t first = 0; first < x.size(); first += columns) {
    for (size_t j = 0; j < columns; ++j) s.deviation[j] += (x[first + j] - s.mean[j]) * (x[first + j] - s.mean[j]);
  }
  for (double& deviation : s.deviation) deviation = std::sqrt(deviation / n);
  const double noise = kNoise * *std::max_element(s.deviation.begin(), s.deviation.end());
  for (double& deviation : s.deviation) deviation = deviation > noise ? deviation : 1;
  return s;
}

void Standardization::apply(std::span<float> x) const {
  for (size_t first = 0; first < x.size(); first += mean.size()) {
    for (size_t j = 0; j < mean.size(); ++j) {
      x[first + j] = static_cast<float>((x[first + j] - mean[j]) / deviation[j]);
    }
  }
}

Head Standardization::fold(const Head& head) const {
  Head folded = head;
  const size_t columns = mean.size();
  const auto w1 = folded.w1();
  for (size_t i = 0; i < w1.size(); ++i) w1[i] = static_cast<float>(w1[i] / deviation[i % columns]);
  const auto b1 = folded.b1();
  for (size_t h = 0; h < b1.size(); ++h) {
    double shift = 0;
    for (size_t j = 0; j < columns; ++j) shift += head.w1()[h * columns + j] * (mean[j] / deviation[j]);
    b1[h] = static_cast<float>(b1[h] - shift);
  }
  return folded;
}

}  // namespace rewardhead::training
