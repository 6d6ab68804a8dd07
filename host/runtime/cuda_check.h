// SPDX-License-Identifier: Apache-2.0
//
// Kernels prove themselves on the user's GPU before a plan trusts them: small problems are solved there and by the
// CPU's reference (kernels/reference), in milliseconds. Heads are integers of which no sum rounds, so that every bit
// must agree, with tails in each dimension and values of more than 8 bits, which one plane of bfloat16 does not hold.
//
// The calling thread's current device must be the context's. CannotTry (cuda_memory.h) says nothing about the kernels.
#pragma once

#include <string>

#include "host/runtime/cuda_plan.h"

namespace rewardhead::runtime {

// Of a row's products, or of the kernels that all rows share (linear head, pair loss, AdamW): empty, or what is wrong.
std::string check_products(const CudaContext& context, CudaRow row);
std::string check_shared_kernels(const CudaContext& context);

}  // namespace rewardhead::runtime
