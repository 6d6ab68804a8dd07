// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>

namespace rewardhead::python {

// The C interface on addresses, for the operators of rewardhead.torch, which check shapes, types and devices.
void bind_kernels(nanobind::module_& module);

// Files, training, and scoring of arrays.
void bind_model(nanobind::module_& module);

}  // namespace rewardhead::python
