// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>

namespace rewardhead::python {

// The C interface on addresses, for the operators of rewardhead.torch, which check shapes, types and devices.
void bind_kernels(nanobind::module_& module);

// Model files, training, and scoring of arrays.
void bind_model(nanobind::module_& module);

// The data of a run, for its report.
void bind_data(nanobind::module_& module);

}  // namespace rewardhead::python
