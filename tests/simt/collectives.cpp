// SPDX-License-Identifier: Apache-2.0
//
// What threads do together: shuffles, barriers of warps, blocks and clusters, registers of warpgroups, and the order
// of grids.
#include <cstring>

#include "kernels/cuda/ptx.h"
#include "tests/simt/machine.h"

namespace simt {
namespace {

// All lanes give `value`; afterwards each can read what the others gave until the next collective.
void exchange(const char* operation, uint32_t value) {
  warp().values[lane()][0] = value;
  meet_warp(operation, [] {});
}

uint32_t shuffle(const char* operation, uint32_t value, uint32_t from) {
  exchange(operation, value);
  if (from >= warp_threads()) fault(Hazard::divergent_collective, "%s reads lane %u, which is none", operation, from);
  const uint32_t result = warp().values[from][0];
  meet_warp(operation, [] {});  // nobody overwrites values before all have read
  return result;
}

// The meeting's warps have synchronised: their lanes' accesses before and after are ordered.
void advance_epochs(const Rendezvous& r) {
  ++warp().epoch;
  const Warp* last = &warp();
  for (const uint32_t waiting : r.complete.waiting) {
    const Thread& t = machine().threads[waiting];
    Warp& w = t.block->warps[t.index / 32];
    if (&w == last || &w == &warp()) continue;
    ++w.epoch;
    last = &w;
  }
}

void synchronize(Rendezvous& r, uint32_t threads, const char* operation, Wait wait, uint32_t number) {
  release(r.gathered);
  if (arrive(r, threads, operation, wait, number)) {
    r.released = r.gathered;
    advance_epochs(r);
    let_go(r);
  }
  acquire(r.released);
}

template <bool kMore>
void change_registers(uint32_t registers) {
  need_capability(9, "setmaxnreg");
  if (registers < 24 || registers > 256 || registers % 8) {
    fault(Hazard::register_budget, "setmaxnreg %u: 24 to 256, a multiple of 8", registers);
  }
  meet_warpgroup(kMore ? "setmaxnreg.inc" : "setmaxnreg.dec", [] {});
  Block& b = block();
  Warpgroup& g = warpgroup();
  if (self().index % 128 == 0) {
    if (kMore ? registers < g.registers : registers > g.registers) {
      fault(Hazard::register_budget, "setmaxnreg.%s to %u by a warpgroup that has %u", kMore ? "inc" : "dec", registers,
            g.registers);
    }
    const uint32_t change = (kMore ? registers - g.registers : g.registers - registers) * 128;
    if (kMore) {
      while (b.spare_registers < change) wait_for(b.registers_returned, Wait::registers, 0);
      b.spare_registers -= change;
    } else {
      b.spare_registers += change;
      signal(b.registers_returned);
    }
    g.registers = registers;
  }
  meet_warpgroup("setmaxnreg", [] {});
}

}  // namespace
}  // namespace simt

namespace ptx {

using namespace simt;

uint32_t thread_index() { return self().index; }
uint32_t block_index() { return block().index; }
uint32_t block_count() { return machine().launch->blocks; }
uint32_t cluster_rank() { return block().rank; }

uint32_t uniform(uint32_t x) {
  if (shuffle("uniform", x, 0) != x) fault(Hazard::divergent_collective, "a value said to be uniform differs");
  return x;
}
uint32_t shfl_xor(uint32_t v, int lane_mask) {
  return shuffle("shfl.bfly", v, lane() ^ static_cast<uint32_t>(lane_mask));
}
uint32_t shfl(uint32_t v, int from) { return shuffle("shfl.idx", v, static_cast<uint32_t>(from) & 31); }
float shfl_xor(float v, int lane_mask) {
  check_value(v);
  if (device().faulting_shuffle) fault(Hazard::unsupported_instruction, "shfl, at which this device is to fault");
  const float other = __builtin_bit_cast(float, shfl_xor(__builtin_bit_cast(uint32_t, v), lane_mask));
  return device().broken_shuffle && lane() == 5 ? other + 1 : other;
}
float shfl(float v, int from) {
  check_value(v);
  return __builtin_bit_cast(float, shfl(__builtin_bit_cast(uint32_t, v), from));
}
uint32_t ballot(bool v) {
  exchange("vote.ballot", v);
  uint32_t result = 0;
  for (uint32_t i = 0; i < warp_threads(); ++i) result |= warp().values[i][0] << i;
  meet_warp("vote.ballot", [] {});
  return result;
}
bool elect_one() {
  need_capability(9, "elect.sync");
  meet_warp("elect", [] {});
  return lane() == machine().elected_lane % warp_threads();
}

void syncwarp() {
  self().dependency |= warp().view.dependency;
  warp().view.dependency |= self().dependency;
  meet_warp("syncwarp", [] {
    ++warp().epoch;
    ++warp().view.order[warp().agent];
  });
  self().dependency |= warp().view.dependency;
}
void named_barrier(int id, int threads) {
  if (id < 0 || id > 15 || threads <= 0 || threads % 32) {
    fault(Hazard::divergent_barrier, "barrier %d of %d threads: 0 to 15, and a multiple of 32", id, threads);
  }
  synchronize(block().barriers[static_cast<size_t>(id)], static_cast<uint32_t>(threads), "bar.sync", Wait::barrier,
              static_cast<uint32_t>(id));
}
void syncthreads() { synchronize(block().barriers[0], block().threads, "bar.sync", Wait::barrier, 0); }
void cluster_sync() {
  need_capability(9, "barrier.cluster");
  Machine& m = machine();
  synchronize(m.cluster, static_cast<uint32_t>(m.threads.size()), "barrier.cluster", Wait::cluster, 0);
}

void setmaxnreg_inc(uint32_t registers) { change_registers<true>(registers); }
void setmaxnreg_dec(uint32_t registers) { change_registers<false>(registers); }

void grid_dependency_wait() {
  need_capability(9, "griddepcontrol.wait");
  self().dependency = true;
}
void grid_dependency_launch() { need_capability(9, "griddepcontrol.launch_dependents"); }

}  // namespace ptx
