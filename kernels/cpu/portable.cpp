// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/simd/portable.h"

#include "kernels/cpu/table.h"

namespace rewardhead::kernels {

const KernelTable& portable_table() {
  static constexpr KernelTable table = make_table<Portable>();
  return table;
}

}  // namespace rewardhead::kernels
