// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "host/training/options.h"

namespace rewardhead::training {

// Draws W1, b1, w2, b2 in this order, row by row, from Random(seed, kInitStream). fan_in is the number of inputs of the
// layer: `input` for W1 and b1 (and the linear head's w), `hidden` for w2 and b2.
//   torch    every element uniform in +-1/sqrt(fan_in), as torch.nn.Linear starts
//   he       weights normal with variance 2/fan_in (He, Zhang, Ren, Sun, ICCV 2015), biases 0
//   normal   weights 0.01 times standard normal, biases 0
inline constexpr uint64_t kInitStream = 0x696E6974;  // "init" in ASCII
void initialize(Head& head, Init init, uint64_t seed);

}  // namespace rewardhead::training
