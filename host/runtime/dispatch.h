// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "kernels/kernel_table.h"

namespace rewardhead::runtime {

// One row of the dispatch list: what an implementation needs, and whether this machine has it.
struct Implementation {
  const char* name;
  const char* needs;  // of the processor, in words
  bool (*usable)();
  const kernels::KernelTable& (*table)();
};

// Best first, the reference last. All rows serve every operation and shape.
const std::vector<Implementation>& implementations();

// Every name that an `isa` option may have, "auto" first, then the list's.
const std::vector<const char*>& isa_names();

// The operations of a kernel table, as rh_kernel_info names them.
inline constexpr const char* kOperations[] = {"forward",     "pair_loss",      "backward",
                                              "linear_step", "sum_of_squares", "adamw"};

// The row that `isa` names, or for "auto" the first usable one. Throws ApiError for a name that is not in the list, or
// that this machine cannot run; `origin` says in the message where the name came from.
const Implementation& choose_implementation(const std::string& isa, const std::string& origin);

}  // namespace rewardhead::runtime
