// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "tests/simt/machine.h"

namespace simt {
namespace {

// A block's registers: warps have them in units of 256.
uint32_t block_registers(uint32_t threads, uint32_t registers) {
  return (threads + 31) / 32 * ((registers * 32 + 255) / 256 * 256);
}

}  // namespace

uint32_t blocks_per_multiprocessor(const Launch& l, const Limits& limits) {
  if (l.threads == 0 || l.threads > limits.threads_per_block || l.shared_bytes > limits.shared_per_block) return 0;
  uint32_t blocks = std::min(limits.blocks_per_multiprocessor, limits.threads_per_multiprocessor / l.threads);
  blocks = std::min(blocks, limits.shared_per_multiprocessor / (l.shared_bytes + limits.shared_reserved_per_block));
  if (l.registers > 0) {
    blocks = std::min(blocks, limits.registers_per_multiprocessor / block_registers(l.threads, l.registers));
  }
  return blocks;
}

void check_launch(Launch& l) {
  const Limits limits;
  if (l.blocks == 0 || l.cluster == 0 || l.blocks % l.cluster || l.cluster > limits.cluster_blocks) {
    fault(Hazard::occupancy, "%u blocks in clusters of %u; clusters may have up to %u", l.blocks, l.cluster,
          limits.cluster_blocks);
  }
  if (l.threads == 0 || l.threads > limits.threads_per_block) {
    fault(Hazard::occupancy, "%u threads in a block; up to %u", l.threads, limits.threads_per_block);
  }
  if (l.shared_bytes > limits.shared_per_block) {
    fault(Hazard::occupancy, "%u bytes of shared memory in a block; up to %u", l.shared_bytes,
          limits.shared_per_block);
  }
  if (l.registers == 0) {  // what the compiler may use for these bounds
    const uint32_t threads = (l.threads + 31) / 32 * 32 * std::max(1u, l.min_blocks);
    l.registers = std::min(255u, limits.registers_per_multiprocessor / threads / 8 * 8);
  }
  const uint32_t fit = blocks_per_multiprocessor(l, limits);
  if (fit < std::max(1u, l.min_blocks)) {
    fault(Hazard::occupancy, "%u blocks of %u threads, %u bytes of shared memory and %u registers a thread fit a "
          "multiprocessor; %u wanted", fit, l.threads, l.shared_bytes, l.registers, l.min_blocks);
  }
}

}  // namespace simt
