// SPDX-License-Identifier: Apache-2.0
//
// Compiled once for each implementation, with its options; the build names the vector type and the function.
#include "tests/kernels/logistic.h"

#include REWARDHEAD_SIMD_HEADER
#include "kernels/cpu/softplus.h"

namespace rewardhead::kernels::testing {

void REWARDHEAD_LOGISTIC(const float* x, float (*results)[kLogisticValues]) {
  using V = REWARDHEAD_VECTOR;
  static_assert(kLogisticValues % V::lanes == 0);
  for (int i = 0; i < kLogisticValues; i += V::lanes) {
    const Logistic<V> f = logistic<V>(V::load(x + i));
    V::store(results[0] + i, f.softplus_positive);
    V::store(results[1] + i, f.softplus_negative);
    V::store(results[2] + i, f.sigmoid_positive);
    V::store(results[3] + i, f.sigmoid_negative);
  }
}

}  // namespace rewardhead::kernels::testing
