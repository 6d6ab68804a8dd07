// SPDX-License-Identifier: Apache-2.0
//
// What the software device reports. A hazard is an error of the kernel or its launch that a GPU need not notice.
#pragma once

#include <stdexcept>
#include <string>

namespace simt {

enum class Hazard {
  shared_race,              // two accesses of threads to shared memory, one a write, that no synchronisation orders
  copy_race,                // an asynchronous copy or wgmma, and an access it is not ordered with
  missing_copy_wait,        // shared memory read before the copy into it has been waited for
  missing_proxy_fence,      // threads' stores used by bulk copies or wgmma without fence.proxy.async between
  mbarrier_misuse,          // not initialised or fenced, too many arrivals or bytes, or a phase that was missed
  wgmma_in_flight,          // accumulators or fragments touched between wgmma and the wait for it
  missing_wgmma_fence,      // wgmma after a wait, without wgmma.fence
  wgmma_descriptor,         // not of the 128-byte swizzle, or an operand not where that needs it
  tensor_map,               // a bulk tensor copy with a map that is none
  shared_out_of_bounds,     //
  global_out_of_bounds,     // outside every device allocation
  misaligned_access,        //
  uninitialized_shared,     // a read of shared memory that nothing has written
  global_race,              // two blocks of a launch, one of them writing, at the same place of global memory
  divergent_barrier,        // a block's barrier that not all threads reach, or not with the same number of threads
  divergent_collective,     // an instruction of a warp, warpgroup or cluster that not all its threads execute
  deadlock,                 // every thread waits, and nothing is in flight
  register_budget,          // setmaxnreg beyond what the launch has allocated
  early_access,             // of what an earlier grid reads or writes, before griddepcontrol.wait
  occupancy,                // threads, shared memory or clusters over what a multiprocessor has
  unfinished_copy,          // a block that ends with copies or wgmma under way
  unsupported_instruction,  // that the compute capability lacks
  exited_block,             // an arrival at, or a copy to, a block of the cluster that has ended
};

// shared-race, copy-race, ...
const char* name(Hazard hazard);

class Fault : public std::runtime_error {
 public:
  Fault(Hazard which, const std::string& message) : std::runtime_error(message), hazard(which) {}
  Hazard hazard;
};

// Ends the running kernel; the message starts with the hazard's name and says which thread, if one was running.
[[noreturn, gnu::format(printf, 2, 3)]] void fault(Hazard hazard, const char* format, ...);

}  // namespace simt
