// SPDX-License-Identifier: Apache-2.0
#include "tests/simt/device.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "tests/simt/machine.h"

namespace simt {
namespace {

// CUDA C++ Programming Guide, "Technical specifications per compute capability".
Limits limits_of(int major, int minor) {
  constexpr uint32_t kb = 1024;
  const int capability = major * 10 + minor;
  Limits l = {};
  l.cluster_blocks = major >= 9 ? 8 : 1;
  if (capability == 75) {
    l.shared_per_multiprocessor = 65 * kb;  // of which a block can have 64
    l.threads_per_multiprocessor = 1024;
    l.blocks_per_multiprocessor = 16;
  } else if (capability == 80 || capability == 87) {
    l.shared_per_multiprocessor = 164 * kb;
    l.threads_per_multiprocessor = capability == 80 ? 2048 : 1536;
    l.blocks_per_multiprocessor = capability == 80 ? 32 : 16;
  } else if (capability == 86 || capability == 89 || major == 12) {
    l.shared_per_multiprocessor = 100 * kb;
    l.threads_per_multiprocessor = 1536;
    l.blocks_per_multiprocessor = capability == 86 ? 16 : capability == 89 ? 24 : 32;
  } else if (capability == 90 || major == 10) {
    l.shared_per_multiprocessor = 228 * kb;
    l.threads_per_multiprocessor = 2048;
    l.blocks_per_multiprocessor = 32;
  } else {
    throw std::invalid_argument("compute capability " + std::to_string(major) + "." + std::to_string(minor) +
                                " is not one that the software device knows");
  }
  l.shared_per_block = l.shared_per_multiprocessor - l.shared_reserved_per_block;
  return l;
}

Device device_of_environment() {
  Device device;
  if (const char* const bytes = std::getenv("SIMT_MEMORY")) device.memory_bytes = std::strtoull(bytes, nullptr, 10);
  if (const char* const count = std::getenv("SIMT_DEVICES")) device.count = std::atoi(count);
  return device;
}

Device current_device = device_of_environment();
Limits current_limits = limits_of(current_device.major, current_device.minor);

// Of a block: warps have registers in units of 256.
uint32_t block_registers(uint32_t threads, uint32_t registers) {
  return (threads + 31) / 32 * ((registers * 32 + 255) / 256 * 256);
}

}  // namespace

const Device& device() { return current_device; }
const Limits& limits() { return current_limits; }
void set_device(const Device& device) {
  current_limits = limits_of(device.major, device.minor);
  current_device = device;
}

uint32_t blocks_per_multiprocessor(const Launch& l) {
  const Limits& limit = limits();
  if (l.threads == 0 || l.threads > limit.threads_per_block || l.shared_bytes > limit.shared_per_block) return 0;
  uint32_t blocks = std::min(limit.blocks_per_multiprocessor, limit.threads_per_multiprocessor / l.threads);
  blocks = std::min(blocks, limit.shared_per_multiprocessor / (l.shared_bytes + limit.shared_reserved_per_block));
  if (l.registers > 0) {
    blocks = std::min(blocks, limit.registers_per_multiprocessor / block_registers(l.threads, l.registers));
  }
  return blocks;
}

void check_launch(Launch& l) {
  const Limits& limit = limits();
  if (l.blocks == 0 || l.cluster == 0 || l.blocks % l.cluster || l.cluster > limit.cluster_blocks) {
    fault(Hazard::occupancy, "%u blocks in clusters of %u; clusters may have up to %u", l.blocks, l.cluster,
          limit.cluster_blocks);
  }
  if (l.threads == 0 || l.threads > limit.threads_per_block) {
    fault(Hazard::occupancy, "%u threads in a block; up to %u", l.threads, limit.threads_per_block);
  }
  if (l.shared_bytes > limit.shared_per_block) {
    fault(Hazard::occupancy, "%u bytes of shared memory in a block; up to %u", l.shared_bytes, limit.shared_per_block);
  }
  const uint32_t wanted = std::max(1u, l.min_blocks);
  if (l.registers == 0) {  // what the compiler may use for these bounds
    l.registers = std::min(255u, limit.registers_per_multiprocessor / ((l.threads + 31) / 32 * 32 * wanted) / 8 * 8);
  }
  const uint32_t fit = blocks_per_multiprocessor(l);
  if (fit < wanted) {
    fault(
        Hazard::occupancy,
        "%u blocks of %u threads, %u bytes of shared memory and %u registers a thread fit a multiprocessor; %u wanted",
        fit, l.threads, l.shared_bytes, l.registers, l.min_blocks);
  }
}

void need_capability(int major, const char* instruction) {
  if (device().major < major) {
    fault(Hazard::unsupported_instruction, "%s on compute capability %d.%d", instruction, device().major,
          device().minor);
  }
}

}  // namespace simt
