// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/simd/avx512.h"

#include "kernels/cpu/table.h"

namespace rewardhead::kernels {

const KernelTable& avx512_table() {
  static constexpr KernelTable table = make_table<Avx512>();
  return table;
}

}  // namespace rewardhead::kernels
