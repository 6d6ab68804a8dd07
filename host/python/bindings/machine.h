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

// Asks for large pages under an array of the CPU that a kernel is about to fill. From 32 MB on, glibc gives back what
// is freed at once, so that each new gradient of a large W1 is 4 KB pages that the system clears one by one: half of
// the time of a step of 50 rows at 3,584 x 3,584. A hint: it changes nothing where the pages are there, or where a
// system refuses.
void expect_writes(void* memory, size_t bytes);

// Copies within a GPU's memory, enqueued on the stream.
void copy_on_gpu(void* stream, void* to, const void* from, size_t bytes);

}  // namespace rewardhead::python
