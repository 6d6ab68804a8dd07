// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace rewardhead::kernels::testing {

// softplus(x), softplus(-x), sigmoid(x), sigmoid(-x) of kernels/cpu/softplus.h, 16 values at a time.
inline constexpr int kLogisticValues = 16;
using LogisticFunction = void (*)(const float* x, float (*results)[kLogisticValues]);

// That of kernels/cpu/softplus.h compiled as kernels/cpu/`isa`.cpp is, or of the reference.
LogisticFunction logistic_function(const char* isa);

void logistic_portable(const float* x, float (*results)[kLogisticValues]);
void logistic_avx2(const float* x, float (*results)[kLogisticValues]);
void logistic_avx512(const float* x, float (*results)[kLogisticValues]);
void logistic_avx512_simde(const float* x, float (*results)[kLogisticValues]);

}  // namespace rewardhead::kernels::testing
