// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace rewardhead::bench {

// Registers machine/fma, machine/read, machine/write, machine/copy and machine/read_l3 for each number of threads up to
// `threads`: the limits that a kernel's share of peak and of bandwidth refers to.
void register_machine(int threads);

}  // namespace rewardhead::bench
