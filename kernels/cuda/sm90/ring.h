// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/cuda/ptx.h"

namespace rewardhead::kernels::cuda::sm90 {

// Where a ring of stages stands: a slot, and the parity of its phase.
template <int kStages>
struct Ring {
  uint32_t slot = 0, phase = 0;
  RH_DEVICE void advance() {
    if (++slot == kStages) {
      slot = 0;
      phase ^= 1;
    }
  }
};

}  // namespace rewardhead::kernels::cuda::sm90
