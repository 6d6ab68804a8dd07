// SPDX-License-Identifier: Apache-2.0
#include "tests/simt/fault.h"

#include <cstdarg>
#include <cstdio>

#include "tests/simt/machine.h"

namespace simt {

const char* name(Hazard hazard) {
  switch (hazard) {
    case Hazard::shared_race:
      return "shared-race";
    case Hazard::copy_race:
      return "copy-race";
    case Hazard::missing_copy_wait:
      return "missing-copy-wait";
    case Hazard::missing_proxy_fence:
      return "missing-proxy-fence";
    case Hazard::mbarrier_misuse:
      return "mbarrier-misuse";
    case Hazard::wgmma_in_flight:
      return "wgmma-in-flight";
    case Hazard::missing_wgmma_fence:
      return "missing-wgmma-fence";
    case Hazard::wgmma_descriptor:
      return "wgmma-descriptor";
    case Hazard::tensor_map:
      return "tensor-map";
    case Hazard::shared_out_of_bounds:
      return "shared-out-of-bounds";
    case Hazard::global_out_of_bounds:
      return "global-out-of-bounds";
    case Hazard::misaligned_access:
      return "misaligned-access";
    case Hazard::uninitialized_shared:
      return "uninitialized-shared";
    case Hazard::global_race:
      return "global-race";
    case Hazard::divergent_barrier:
      return "divergent-barrier";
    case Hazard::divergent_collective:
      return "divergent-collective";
    case Hazard::deadlock:
      return "deadlock";
    case Hazard::register_budget:
      return "register-budget";
    case Hazard::early_access:
      return "early-access";
    case Hazard::occupancy:
      return "occupancy";
    case Hazard::unfinished_copy:
      return "unfinished-copy";
    case Hazard::unsupported_instruction:
      return "unsupported-instruction";
    case Hazard::exited_block:
      return "exited-block";
  }
  return "?";
}

void fault(Hazard hazard, const char* format, ...) {
  char text[400];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  char where[80] = "";
  const Machine& m = machine();
  if (m.running && m.current < m.threads.size()) {
    std::snprintf(where, sizeof where, " (block %u, thread %u)", self().block->index, self().index);
  }
  throw Fault(hazard, std::string(name(hazard)) + ": " + text + where);
}

}  // namespace simt
