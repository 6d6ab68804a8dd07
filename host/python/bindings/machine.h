// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "rewardhead/rewardhead.hpp"

namespace rewardhead::python {

// The context with that many threads (0: what affinity and cgroup allow), made at its first use and kept for the life
// of the process. A forked child has none of its parent's threads, so it makes its own.
const Context& context(int threads);

// The context of a GPU, of CUDA's number, and a stream there; made and kept likewise. Throws Error in a build without
// CUDA kernels.
const Context& context(int gpu, void* stream);

// At least so many bytes of the calling thread for one execute on the CPU. They are kept, and grow, for the next.
rh_workspace workspace(size_t bytes);

// From as many bytes on, glibc gives memory back to the system as soon as it is freed (its greatest threshold, see
// M_MMAP_THRESHOLD in mallopt(3)), and the system clears what it gives anew.
constexpr size_t kLarge = size_t{32} << 20;

// Memory of the CPU for an array of at least kLarge bytes that comes and goes, such as the gradient of W1 in each step:
// not cleared, aligned to RH_ALIGNMENT. give_back() keeps it for the next of the same size. One block is kept in the
// process, the latest, until one of another size is asked for. For any thread, and nobody waits: a fork finds it whole.
void* large_memory(size_t bytes);
void give_back(void* memory) noexcept;

// Asks for large pages under an array of the CPU that a kernel is about to fill. On pages of 4 KB, which the system
// clears one by one, the first filling of W1's gradient is half of a step of 50 rows at 3,584 x 3,584. A hint: it
// changes nothing where the pages are there, or where a system refuses.
void expect_writes(void* memory, size_t bytes);

// Copies within a GPU's memory, enqueued on the stream.
void copy_on_gpu(void* stream, void* to, const void* from, size_t bytes);

}  // namespace rewardhead::python
