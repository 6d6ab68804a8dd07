// SPDX-License-Identifier: Apache-2.0
//
// Running one kernel on the software device, below the CUDA runtime (which is in runtime.cpp).
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <functional>

#include "tests/simt/fault.h"

namespace simt {

// A tensor map, in the 128 bytes that its user sees.
struct alignas(128) TensorMap {
  uint64_t magic;
  uint64_t base, inner, outer, stride_bytes;  // of a matrix of 2-byte elements
  uint32_t box_inner, box_outer;
  uint64_t reserved[10];
};
static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) && alignof(TensorMap) == alignof(CUtensorMap));
inline constexpr uint64_t kTensorMapMagic = 0x746d61702d737774;

// Which of several runnable threads goes on, which of several copies under way lands, and in what order blocks run.
enum class Schedule {
  random,        // by seed
  oldest_first,  // the lowest thread, and copies as late as possible, the first issued first
  newest_first,  // the highest thread, and copies as late as possible, the last issued first
};

// What one kernel launch asks for.
struct Launch {
  uint32_t blocks = 1, threads = 32, shared_bytes = 0, cluster = 1;
  uint32_t min_blocks = 1;  // that a multiprocessor must be able to hold together
  uint32_t registers = 0;   // a thread at launch; 0: as many as threads and min_blocks allow
  Schedule schedule = Schedule::random;
  uint64_t seed = 1;
  uint32_t unfinished_since = 0;  // run's number of the first launch that may run on until griddepcontrol.wait; 0: none
};

// Runs body() as every thread of the grid, and returns the launch's number, ascending. Throws Fault at the first
// hazard.
uint32_t run(const Launch& launch, const std::function<void()>& body);

// Runs kernel(parameters); each thread has a copy of the parameters, as on a GPU.
template <class Parameters>
uint32_t run(const Launch& launch, void (*kernel)(Parameters), const Parameters& parameters) {
  return run(launch, [kernel, &parameters] { kernel(parameters); });
}

// Device memory: only the kernels and the copies of the runtime may access it. Contents start as NaN. Aligned to 256.
void* allocate(size_t bytes);
// False if `memory` is not what allocate returned.
bool free(void* memory);
// Whether all of it is in one allocation.
bool is_device_memory(const void* memory, size_t bytes);

// While one lives, the host may access device memory.
class HostAccess {
 public:
  HostAccess();
  ~HostAccess();
  HostAccess(const HostAccess&) = delete;
  HostAccess& operator=(const HostAccess&) = delete;
};

// A map of rows of `inner` 2-byte elements, `stride_bytes` apart, for boxes of box_inner x box_outer elements.
TensorMap tensor_map(const void* base, uint64_t inner, uint64_t outer, uint64_t stride_bytes, uint32_t box_inner,
                     uint32_t box_outer);

}  // namespace simt
