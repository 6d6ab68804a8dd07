// SPDX-License-Identifier: Apache-2.0
#include "host/training/initialize.h"

#include <cmath>

#include "host/dataset/random.h"

namespace rewardhead::training {

void initialize(Head& head, Init init, uint64_t seed) {
  Random random(seed, kInitStream);
  const auto layer = [&](std::span<float> weights, std::span<float> biases, int64_t fan_in) {
    const double n = static_cast<double>(fan_in);
    if (init == Init::torch) {
      for (const auto tensor : {weights, biases}) {
        for (float& value : tensor) value = static_cast<float>((2 * random.uniform() - 1) / std::sqrt(n));
      }
      return;
    }
    const double deviation = init == Init::he ? std::sqrt(2 / n) : 0.01;
    for (float& value : weights) value = static_cast<float>(deviation * random.normal());
    for (float& value : biases) value = 0;
  };
  layer(head.w1(), head.b1(), head.input());
  if (!head.linear()) layer(head.w2(), head.b2(), head.hidden());
}

}  // namespace rewardhead::training
