// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/simd/avx2.h"

#include "kernels/cpu/table.h"

namespace rewardhead::kernels {

const KernelTable& avx2_table() {
  static constexpr KernelTable table = make_table<Avx2>();
  return table;
}

}  // namespace rewardhead::kernels
