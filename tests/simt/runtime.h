// SPDX-License-Identifier: Apache-2.0
//
// The CUDA runtime of the software device, from the side of a test. Code under test sees <cuda_runtime_api.h> only.
//
// Work is queued, and runs no sooner than somebody waits for it, in an order that the schedule chooses among those that
// streams, events and graphs allow: a missing dependency gives wrong data.
#pragma once

#include <cstdint>
#include <optional>

#include "tests/simt/device.h"
#include "tests/simt/fault.h"
#include "tests/simt/launch.h"

namespace simt {

// How kernels and the queue are scheduled from now on. At start: random and seed 1, or what the environment says:
// SIMT_SCHEDULE=random|oldest-first|newest-first and SIMT_SEED=n.
void set_schedule(Schedule schedule, uint64_t seed);

// What made a kernel fail, or a launch be refused, last since reset_runtime(). Its message goes to stderr, too.
std::optional<Fault> last_fault();

// As a new process would find it: nothing queued, no memory allocated, no error. Handles become invalid.
void reset_runtime();

// Since reset_runtime().
struct Counts {
  int64_t launches, allocations, frees, synchronizations, copies_to_host, copies_to_device, graph_launches;
  int64_t live_allocations, live_bytes, live_streams, live_events, live_graphs;
};
Counts counts();

}  // namespace simt
