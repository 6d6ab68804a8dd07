// SPDX-License-Identifier: Apache-2.0
//
// The loss and the slope of one pair, for pair_loss.cu and for the linear head's one pass (linear.cu), which must agree
// in every bit.
#pragma once

#include "kernels/cuda/scalar.h"
#include "kernels/kernel_table.h"

namespace rewardhead::kernels::cuda {

// dL/dd of a member's pair p, d as yet without the margin; its loss is added to `loss`. scale: 1 / normalizer.
RH_DEVICE float pair_slope(const PairLossArguments& a, int64_t member, float scale, int64_t p, float d, float& loss) {
  if (a.margin) d -= ptx::ldg32f(a.margin + p);
  const Logistic<Scalar> f = logistic<Scalar>(d);
  float term = f.softplus_negative, slope = 0.0f - f.sigmoid_negative;
  if (a.label) {
    const float label = ptx::ldg32f(a.label + p), other = 1.0f - label;
    term = label * f.softplus_negative + other * f.softplus_positive;
    slope = other * f.sigmoid_positive - label * f.sigmoid_negative;
  }
  if (a.weight) {
    const float weight = ptx::ldg32f(a.weight + member * a.pairs + p);
    term *= weight;
    slope *= weight;
  }
  loss += term;
  return slope * scale;
}

}  // namespace rewardhead::kernels::cuda
