// SPDX-License-Identifier: Apache-2.0
//
// Asynchronous copies and the barriers that say when they have landed. A cp.async lands when it is waited for, and not
// before; a bulk load lands at any time that the schedule chooses. Until then its target holds NaNs.
#include <algorithm>
#include <cstring>

#include "kernels/cuda/ptx.h"
#include "tests/simt/bank_conflicts.h"
#include "tests/simt/machine.h"

namespace simt {
namespace {

Barrier& barrier_at(Block& b, uint32_t address) {
  const auto i = b.mbarriers.find(address);
  if (i == b.mbarriers.end()) fault(Hazard::mbarrier_misuse, "no mbarrier has been initialised at 0x%x", address);
  return i->second;
}

void complete_phase_if_done(Barrier& b) {
  if (b.pending > 0 || b.bytes != 0) return;
  b.pending = b.expected;
  b.released = b.gathered;
  signal(b.phase);
}

void arrive_at(Barrier& b, uint32_t address, bool remote) {
  if (remote && !b.fenced) {
    fault(Hazard::mbarrier_misuse, "arrival from another block on 0x%x, without a fence after its initialisation",
          address);
  }
  if (b.pending == 0) fault(Hazard::mbarrier_misuse, "more than %u arrivals in a phase of 0x%x", b.expected, address);
  release(b.gathered);
  --b.pending;
  complete_phase_if_done(b);
  machine().polls = 0;
}

// Swizzle of 128 bytes: address bits 4..6 are exchanged with 7..9.
uint32_t swizzled(uint32_t address) { return address ^ ((address >> 7 & 7) << 4); }

// Where the box's row lies in global memory, cut to the tensor: `skip` elements before it are outside.
struct BoxRow {
  const char* from;
  uint32_t skip, elements;
};
BoxRow box_row(const TensorMap& map, int32_t inner, int64_t row) {
  if (row < 0 || static_cast<uint64_t>(row) >= map.outer) return {nullptr, 0, 0};
  const int64_t begin = std::max<int64_t>(inner, 0);
  const int64_t end = std::min<int64_t>(int64_t{inner} + map.box_inner, static_cast<int64_t>(map.inner));
  if (begin >= end) return {nullptr, 0, 0};
  const uint64_t at = map.base + static_cast<uint64_t>(row) * map.stride_bytes + static_cast<uint64_t>(begin) * 2;
  return {reinterpret_cast<const char*>(at), static_cast<uint32_t>(begin - inner), static_cast<uint32_t>(end - begin)};
}

uint32_t box_bytes(const TensorMap& map) { return map.box_inner * map.box_outer * 2; }

void check_map(const TensorMap& map, uint32_t shared) {
  need_capability(9, "cp.async.bulk.tensor");
  if (map.magic != kTensorMapMagic) fault(Hazard::tensor_map, "not a tensor map");
  if (shared % 1024) fault(Hazard::misaligned_access, "0x%x for a box with the 128-byte swizzle: 1024", shared);
}

void start_load(const BulkLoad& load) {
  Machine& m = machine();
  for (Block& b : m.blocks) {
    if (!(load.rank_mask >> b.rank & 1)) continue;
    if (b.live == 0) fault(Hazard::exited_block, "bulk copy into block %u, which has ended", b.index);
    const Barrier& bar = barrier_at(b, load.barrier);
    if (!bar.fenced) {
      fault(Hazard::mbarrier_misuse, "bulk copy with the mbarrier at 0x%x, without a fence after its initialisation",
            load.barrier);
    }
    begin_copy_in(b, load.to, load.bytes, true);
  }
  m.loads.push_back(load);
  m.polls = 0;
}

void land(const BulkLoad& load, Block& b) {
  if (b.live == 0) fault(Hazard::exited_block, "bulk copy into block %u, which has ended", b.index);
  if (load.tensor) {
    for (uint32_t row = 0; row < load.map.box_outer; ++row) {
      const uint32_t row_bytes = load.map.box_inner * 2, to = load.to + row * row_bytes;
      uint8_t line[128] = {};
      const BoxRow r = box_row(load.map, load.inner, int64_t{load.outer} + row);
      if (r.elements) std::memcpy(line + r.skip * 2, r.from, r.elements * 2);
      for (uint32_t i = 0; i < row_bytes; i += 16) std::memcpy(b.at(swizzled(to + i), 16, 16), line + i, 16);
    }
  } else {
    std::memcpy(b.at(load.to, load.bytes, 16), load.from, load.bytes);
  }
  end_copy_in(b, load.to, load.bytes, true);
  Barrier& bar = barrier_at(b, load.barrier);
  bar.gathered.order[b.engine] = b.engine_tick++;
  bar.bytes -= load.bytes;
  complete_phase_if_done(bar);
}

void store_box(const BulkStore& s) {
  Block& b = block();
  const uint32_t row_bytes = s.map.box_inner * 2;
  for (uint32_t row = 0; row < s.map.box_outer; ++row) {
    uint8_t line[128];
    for (uint32_t i = 0; i < row_bytes; i += 16) {
      std::memcpy(line + i, b.at(swizzled(s.from + row * row_bytes + i), 16, 16), 16);
    }
    const BoxRow r = box_row(s.map, s.inner, int64_t{s.outer} + row);
    if (r.elements == 0) continue;
    note_global(r.from, r.elements * 2, 2, true);
    std::memcpy(const_cast<char*>(r.from), line + r.skip * 2, r.elements * 2);
  }
  Warp& w = warp();
  end_async_read(b, w.agent, w.view.order[w.agent], s.from, box_bytes(s.map));
}

}  // namespace

void complete_load(size_t index) {
  Machine& m = machine();
  const BulkLoad load = m.loads[index];
  m.loads.erase(m.loads.begin() + static_cast<ptrdiff_t>(index));
  for (Block& b : m.blocks) {
    if (load.rank_mask >> b.rank & 1) land(load, b);
  }
  m.polls = 0;
}

void check_no_copies_left() {
  const Thread& t = self();
  const auto empty = [](const auto& group) { return group.empty(); };
  if (!t.open_copies.empty() || !std::all_of(t.copy_groups.begin(), t.copy_groups.end(), empty)) {
    fault(Hazard::unfinished_copy, "the thread ends with cp.async that it has not waited for");
  }
  if (!t.open_stores.empty() || !std::all_of(t.store_groups.begin(), t.store_groups.end(), empty)) {
    fault(Hazard::unfinished_copy, "the thread ends with bulk stores that it has not waited for");
  }
}

TensorMap tensor_map(const void* base, uint64_t inner, uint64_t outer, uint64_t stride_bytes, uint32_t box_inner,
                     uint32_t box_outer) {
  TensorMap map = {};
  map.magic = kTensorMapMagic;
  map.base = reinterpret_cast<uint64_t>(base);
  map.inner = inner;
  map.outer = outer;
  map.stride_bytes = stride_bytes;
  map.box_inner = box_inner;
  map.box_outer = box_outer;
  return map;
}

}  // namespace simt

namespace ptx {

using namespace simt;

// ---- cp.async

void cp_async16(uint32_t to, const void* from, uint32_t valid_bytes, const Place& place) {
  if (valid_bytes > 16) fault(Hazard::misaligned_access, "cp.async of %u valid bytes; up to 16", valid_bytes);
  block().at(to, 16, 16);
  if (valid_bytes) note_global(from, valid_bytes, 16, false);
  note_bank_access("cp.async", place, to, 16);
  begin_copy_in(block(), to, 16, false);
  self().open_copies.push_back({to, from, valid_bytes});
}
void cp_async_commit() {
  self().copy_groups.push_back(std::move(self().open_copies));
  self().open_copies.clear();
}
void cp_async_wait(int pending) {
  auto& groups = self().copy_groups;
  while (groups.size() > static_cast<size_t>(pending)) {
    for (const AsyncCopy16& c : groups.front()) {
      uint8_t* const to = block().at(c.to, 16, 16);
      std::memset(to, 0, 16);
      std::memcpy(to, c.from, c.valid_bytes);
      end_copy_in(block(), c.to, 16, false);
    }
    groups.erase(groups.begin());
  }
}

// ---- mbarrier

void mbar_init(uint32_t bar, uint32_t arrivals) {
  need_capability(9, "mbarrier");
  block().at(bar, 8, 8);
  if (arrivals == 0 || arrivals >= 1u << 20) fault(Hazard::mbarrier_misuse, "%u arrivals", arrivals);
  if (block().mbarriers.count(bar)) fault(Hazard::mbarrier_misuse, "0x%x is initialised a second time", bar);
  note_write(bar, 8);
  mark_barrier(bar);
  Barrier& b = block().mbarriers[bar];
  b.expected = b.pending = arrivals;
  b.initializer = self().index;
  b.gathered = b.released = View{std::vector<uint32_t>(machine().agents), std::vector<uint32_t>(machine().agents)};
}
void fence_mbarrier_init() {
  for (auto& [address, b] : block().mbarriers) b.fenced |= b.initializer == self().index;
}
void mbar_expect_tx(uint32_t bar, uint32_t bytes) {
  Barrier& b = barrier_at(block(), bar);
  b.bytes += bytes;
  if (b.bytes >= 1 << 20) fault(Hazard::mbarrier_misuse, "0x%x expects 2^20 bytes or more in a phase", bar);
  arrive_at(b, bar, false);
}
void mbar_arrive(uint32_t bar) { arrive_at(barrier_at(block(), bar), bar, false); }
void mbar_arrive_remote(uint32_t bar, uint32_t rank) {
  Machine& m = machine();
  if (rank >= m.blocks.size()) fault(Hazard::exited_block, "rank %u in a cluster of %zu", rank, m.blocks.size());
  Block& to = m.blocks[rank];
  if (to.live == 0) fault(Hazard::exited_block, "arrival at block %u, which has ended", to.index);
  arrive_at(barrier_at(to, bar), bar, &to != &block());
}
bool mbar_try_wait(uint32_t bar, uint32_t parity) {
  Machine& m = machine();
  Barrier& b = barrier_at(block(), bar);
  if ((b.phase.times & 1) == (parity & 1)) {
    if (++m.polls > 64 * m.threads.size() && m.loads.empty()) {
      fault(Hazard::deadlock, "every thread polls; the mbarrier at 0x%x waits for %u of %u arrivals and %lld bytes",
            bar, b.pending, b.expected, static_cast<long long>(b.bytes));
    }
    if (m.polls % m.threads.size() == 0 && !m.loads.empty()) complete_load(0);
    yield();
    return false;
  }
  ++warp().epoch;
  ++self().meetings;
  acquire(b.released);
  return true;
}
void mbar_wait(uint32_t bar, uint32_t parity) {
  Barrier& b = barrier_at(block(), bar);
  if ((b.phase.times & 1) == (parity & 1)) {
    const uint32_t before = b.phase.times;
    wait_for(b.phase, Wait::mbarrier, bar);
    if (b.phase.times - before > 1) {
      fault(Hazard::mbarrier_misuse, "%u phases of 0x%x completed while a thread waited for one",
            b.phase.times - before, bar);
    }
  }
  ++warp().epoch;
  acquire(b.released);
}

// ---- bulk copies

void fence_proxy_async() {
  fence_mbarrier_init();
  Warp& w = warp();
  for (size_t i = 0; i < w.view.order.size(); ++i) {
    // Of its own warp, a thread fences what came before the last synchronisation; its own stores are found by `fences`.
    const uint32_t known = w.view.order[i] - (i == w.agent ? 1 : 0);
    w.view.fenced[i] = std::max(w.view.fenced[i], known);
  }
  self().fences.push_back(w.view.order[w.agent]);
}
void prefetch_tensor_map(const TensorMap* map) {
  if (map->magic != kTensorMapMagic) fault(Hazard::tensor_map, "not a tensor map");
}
void tma_load_2d(uint32_t to, const TensorMap* map, uint32_t bar, int32_t inner, int32_t outer) {
  tma_load_2d_multicast(to, map, bar, inner, outer, static_cast<uint16_t>(1u << block().rank));
}
void tma_load_2d_multicast(uint32_t to, const TensorMap* map, uint32_t bar, int32_t inner, int32_t outer,
                           uint16_t rank_mask) {
  check_map(*map, to);
  if (rank_mask == 0 || rank_mask >> machine().blocks.size()) {
    fault(Hazard::exited_block, "multicast to ranks 0x%x of a cluster of %zu", rank_mask, machine().blocks.size());
  }
  for (uint32_t row = 0; row < map->box_outer; ++row) {
    const BoxRow r = box_row(*map, inner, int64_t{outer} + row);
    if (r.elements) note_global(r.from, r.elements * 2, 2, false);
  }
  start_load({true, *map, nullptr, to, bar, box_bytes(*map), rank_mask, inner, outer});
}
void bulk_load(uint32_t to, const void* from, uint32_t bytes, uint32_t bar) {
  if (bytes == 0 || bytes % 16) fault(Hazard::misaligned_access, "bulk copy of %u bytes; a multiple of 16", bytes);
  note_global(from, bytes, 16, false);
  start_load({false, {}, from, to, bar, bytes, 1u << block().rank, 0, 0});
}
void tma_store_2d(const TensorMap* map, uint32_t from, int32_t inner, int32_t outer) {
  check_map(*map, from);
  block().at(from, box_bytes(*map), 16);
  begin_async_read(block(), warp(), from, box_bytes(*map));
  self().open_stores.push_back({*map, from, inner, outer});
}
void bulk_commit() {
  self().store_groups.push_back(std::move(self().open_stores));
  self().open_stores.clear();
}
void bulk_wait(int pending) {
  auto& groups = self().store_groups;
  while (groups.size() > static_cast<size_t>(pending)) {
    for (const BulkStore& s : groups.front()) store_box(s);
    groups.erase(groups.begin());
  }
}

}  // namespace ptx
