// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "rewardhead/rewardhead.hpp"

namespace rewardhead::python {

// The context with that many threads (0: what affinity and cgroup allow), made at its first use and kept for the life
// of the process. A forked child has none of its parent's threads, so it makes its own.
const Context& context(int threads);

// Memory of the calling thread for one execute of the plan. It is kept, and grows, for the next.
rh_workspace workspace(const rh_plan* plan);

}  // namespace rewardhead::python
