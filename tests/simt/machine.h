// SPDX-License-Identifier: Apache-2.0
//
// The state of the software device while a kernel runs: one cluster of blocks at a time, a fiber for each thread, and
// for every access the knowledge of what it is ordered after.
//
// Order is kept by vector clocks. An agent is a warp, the wgmma reads of a warpgroup, or the copy engine of a block;
// each counts its own ticks, and a View says how far it knows those of the others. Releases (barrier arrivals) publish
// a View, acquires (barrier waits) join it. Lanes of one warp share a View and are told apart by the warp's epoch,
// which every warp-wide synchronisation advances.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/simt/device.h"
#include "tests/simt/fault.h"
#include "tests/simt/fiber.h"
#include "tests/simt/launch.h"

namespace simt {

inline constexpr uint32_t kSharedBase = 0x400;  // the first shared-window address; 0 is never valid
inline constexpr uint16_t kNobody = 0xffff;

struct View {
  std::vector<uint32_t> order;   // [agents]: ticks that happened before
  std::vector<uint32_t> fenced;  // [agents]: those that a proxy fence followed
  bool dependency = false;       // griddepcontrol.wait happened before
};
void join(View& into, const View& from);

// What threads wait for.
struct Event {
  uint32_t times = 0;             // that it has happened
  std::vector<uint32_t> waiting;  // threads, by their index in the cluster
};

// A meeting of threads: the last to arrive lets all go on.
struct Rendezvous {
  const char* operation = nullptr;  // of those that have arrived
  uint32_t arrived = 0, size = 0;
  Event complete;
  View gathered, released;
};

// Of an mbarrier.
struct Barrier {
  uint32_t expected = 0, pending = 0;
  int64_t bytes = 0;  // still to come; negative where they came before they were announced
  Event phase;        // completed
  uint32_t initializer = 0;
  bool fenced = false;
  View gathered, released;
};

// What is known about 4 bytes of shared memory.
struct Word {
  uint32_t written = 0;            // tick of the writer
  uint32_t write_epoch = 0;        // of its warp
  uint32_t read_epoch = 0;         // of the last reading warp
  uint32_t fences = 0;             // proxy fences that the writing thread had executed
  int32_t reads = -1;              // index of the readers' ticks in Block::reads, a row of [agents]
  uint16_t writer = kNobody;       // agent
  uint16_t last_reader = kNobody;  // agent
  uint8_t write_lane = 0, read_lane = 0;
  uint8_t initialized = 0;   // a bit for each byte
  uint16_t copies_in = 0;    // asynchronous copies into it under way
  uint16_t async_reads = 0;  // asynchronous reads of it under way
  bool generic = false;      // last written by a thread, not by a copy
  bool barrier = false;      // part of an mbarrier
};

struct AsyncCopy16 {  // cp.async
  uint32_t to;
  const void* from;
  uint32_t valid_bytes;
};
struct BulkStore {
  TensorMap map;
  uint32_t from;
  int32_t inner, outer;
};

// What a thread waits for; deadlocks are named after it.
enum class Wait { nothing, warp, warpgroup, barrier, cluster, mbarrier, registers };

struct Block;
struct Thread {
  Fiber fiber;
  Block* block = nullptr;
  uint32_t index = 0;  // in its block
  bool done = false;
  uint32_t meetings = 0;         // with other threads, and mbarriers waited for: where lanes of a warp are together
  Wait wait = Wait::nothing;
  uint32_t wait_address = 0;     // of an mbarrier, or number of a barrier
  bool dependency = false;       // griddepcontrol.wait executed, or ordered after one that was
  std::vector<uint32_t> fences;  // the warp's tick at each proxy fence
  std::vector<AsyncCopy16> open_copies;
  std::vector<std::vector<AsyncCopy16>> copy_groups;
  std::vector<BulkStore> open_stores;
  std::vector<std::vector<BulkStore>> store_groups;
};

struct Warp {
  uint16_t agent = 0;
  uint32_t epoch = 1;
  View view;
  Rendezvous meeting;
  uint32_t values[32][8];  // operands of collectives
  float* accumulators[32];
  uint32_t* results[32];
};

struct Wgmma {
  int columns;
  bool f16, a_in_registers, transpose_a, transpose_b;
  uint64_t a, b;  // descriptors
  float* accumulators[128];
  const uint32_t* fragments[128];
  uint32_t fragment_values[128][4];
};
// Accumulator registers of a warpgroup while wgmma has them.
struct Accumulators {
  float* registers[128];
  int count;
  uint32_t in_flight = 0;
  std::vector<float> values;  // [128][count]
};
struct Warpgroup {
  uint16_t agent = 0;
  uint32_t tick = 1;
  Rendezvous meeting;
  bool fenced = false;
  uint32_t registers = 0;  // a thread
  Wgmma staging;
  std::vector<Wgmma> open;
  std::vector<std::vector<Wgmma>> groups;
  std::vector<Accumulators> accumulators;
};

struct Block {
  uint32_t index = 0, rank = 0;  // in the grid, in the cluster
  uint32_t threads = 0, live = 0;
  uint16_t engine = 0;  // agent of the copies into this block
  uint32_t engine_tick = 1;
  uint32_t spare_registers = 0;
  Event registers_returned;
  std::vector<uint8_t> shared;
  std::vector<Word> words;
  std::vector<uint32_t> reads;
  std::vector<Rendezvous> barriers;  // 16
  std::map<uint32_t, Barrier> mbarriers;
  std::vector<Warp> warps;
  std::vector<Warpgroup> warpgroups;

  // Checks bounds and alignment.
  uint8_t* at(uint32_t address, uint32_t bytes, uint32_t alignment);
};

// A bulk load under way.
struct BulkLoad {
  bool tensor;
  TensorMap map;
  const void* from;
  uint32_t to, barrier, bytes, rank_mask;
  int32_t inner, outer;
};

struct Machine {
  const Launch* launch = nullptr;
  std::function<void()> body;
  FiberStacks stacks;
  Fiber host;
  std::vector<Thread> threads;     // of all blocks of the cluster
  std::vector<uint64_t> runnable;  // a bit for each
  std::vector<Block> blocks;
  std::vector<BulkLoad> loads;
  Rendezvous cluster;
  uint32_t agents = 0;
  uint32_t current = 0, live = 0;
  uint32_t launch_number = 0;
  uint32_t elected_lane = 0;
  uint32_t accesses_left = 0;  // until the next such interruption
  uint32_t polls = 0;          // of mbarriers, in vain, since anything has happened
  uint64_t switches = 0;
  uint64_t random_state = 1;
  bool running = false, failed = false;
  Hazard hazard = {};
  std::string message;

  uint32_t random(uint32_t below);
};
extern Machine the_machine;
inline Machine& machine() { return the_machine; }

inline Thread& self() { return machine().threads[machine().current]; }
inline Block& block() { return *self().block; }
inline Warp& warp() { return block().warps[self().index / 32]; }
inline Warpgroup& warpgroup() { return block().warpgroups[self().index / 128]; }
inline uint32_t lane() { return self().index % 32; }
// Of the current warp; fewer than 32 in the last one of a block that has no multiple of 32.
inline uint32_t warp_threads() {
  const uint32_t left = block().threads - self().index / 32 * 32;
  return left < 32 ? left : 32;
}

// ---- machine.cpp: the scheduler
void yield();
// In a random schedule, now and then: between any two accesses, other threads may run.
void maybe_yield();
// Until the event happens.
void wait_for(Event& event, Wait wait, uint32_t address);
void signal(Event& event);
// Meets `size` threads; true in the last to arrive, which then lets all go on.
bool arrive(Rendezvous& meeting, uint32_t size, const char* operation, Wait wait, uint32_t address);
void let_go(Rendezvous& meeting);
// The last to arrive calls finish() before anybody goes on.
template <class Finish>
void meet_warp(const char* operation, const Finish& finish) {
  Rendezvous& r = warp().meeting;
  if (!arrive(r, warp_threads(), operation, Wait::warp, 0)) return;
  finish();
  let_go(r);
}
template <class Finish>
void meet_warpgroup(const char* operation, const Finish& finish) {
  Rendezvous& r = warpgroup().meeting;
  if (!arrive(r, 128, operation, Wait::warpgroup, 0)) return;
  finish();
  let_go(r);
}
void release(View& gathered);
void acquire(const View& released);

// ---- shared_memory.cpp: checks, and what is remembered for the checks to come
void note_read(uint32_t address, uint32_t bytes);
void note_write(uint32_t address, uint32_t bytes);
// Of a copy by the current thread, to `to`: from its issue until it has landed, nobody may access the target.
void begin_copy_in(Block& to, uint32_t address, uint32_t bytes, bool async_proxy);
void end_copy_in(Block& to, uint32_t address, uint32_t bytes, bool async_proxy);
// Of an asynchronous read, as seen by `reader`: until it ends, nobody may write.
void begin_async_read(Block& from, const Warp& reader, uint32_t address, uint32_t bytes);
void end_async_read(Block& from, uint16_t agent, uint32_t tick, uint32_t address, uint32_t bytes);
void mark_barrier(uint32_t address);

// ---- device.cpp
// Completes a launch, or reports what a multiprocessor does not have.
void check_launch(Launch& launch);
void need_capability(int major, const char* instruction);

// ---- copies.cpp
void complete_load(size_t index);
void check_no_copies_left();

// ---- matrix.cpp
inline constexpr uint32_t kInFlight = 0x7fd1f1e7;  // a NaN: what accumulators hold until they are waited for
// Reports values that have come from such a register.
void check_value(float value);
void check_no_wgmma_left();

// ---- global_memory.cpp
void note_global(const void* address, uint32_t bytes, uint32_t alignment, bool write, bool atomic = false);

}  // namespace simt
