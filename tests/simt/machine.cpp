// SPDX-License-Identifier: Apache-2.0
#include "tests/simt/machine.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

namespace simt {
namespace {

// The next step of Steele, Lea and Flood's SplitMix64.
uint64_t next_random(uint64_t& state) {
  uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// The first runnable thread from `start` on, upwards and round, or downwards from the end; -1 where there is none.
int64_t next_runnable(uint32_t start) {
  const std::vector<uint64_t>& words = machine().runnable;
  size_t i = start / 64;
  uint64_t word = words[i] & ~uint64_t{0} << start % 64;
  for (size_t seen = 0; seen <= words.size(); ++seen) {
    if (word) return static_cast<int64_t>(i * 64) + std::countr_zero(word);
    i = i + 1 == words.size() ? 0 : i + 1;
    word = words[i];
  }
  return -1;
}
int64_t last_runnable() {
  const std::vector<uint64_t>& words = machine().runnable;
  for (size_t i = words.size(); i-- > 0;) {
    if (words[i]) return static_cast<int64_t>(i * 64) + 63 - std::countl_zero(words[i]);
  }
  return -1;
}
void set_runnable(uint32_t thread, bool runnable) {
  uint64_t& word = machine().runnable[thread / 64];
  const uint64_t bit = uint64_t{1} << thread % 64;
  word = runnable ? word | bit : word & ~bit;
}

// A thread that can go on, or -1.
int64_t choose_thread() {
  Machine& m = machine();
  const uint32_t count = static_cast<uint32_t>(m.threads.size());
  switch (m.launch->schedule) {
    case Schedule::oldest_first:
      return next_runnable(0);
    case Schedule::newest_first:
      return last_runnable();
    case Schedule::random:
      break;
  }
  // In turn, with jumps.
  return next_runnable(m.random(64) == 0 ? m.random(count) : m.current + 1 == count ? 0 : m.current + 1);
}

size_t choose_load() {
  Machine& m = machine();
  switch (m.launch->schedule) {
    case Schedule::random:
      return m.random(static_cast<uint32_t>(m.loads.size()));
    case Schedule::oldest_first:
      return 0;
    case Schedule::newest_first:
      return m.loads.size() - 1;
  }
  return 0;
}

// Nothing can go on, and nothing is under way: what to call it.
[[noreturn]] void report_standstill() {
  Machine& m = machine();
  const Thread* worst = nullptr;
  for (const Thread& t : m.threads) {
    if (t.done || t.wait == Wait::nothing) continue;
    // What the others wait for tells more than the barrier at which the rest waits for them.
    const auto rank = [](const Thread& waiting) {
      switch (waiting.wait) {
        case Wait::registers:
          return 6;
        case Wait::mbarrier:
          return waiting.block->mbarriers.at(waiting.wait_address).bytes != 0 ? 5 : 4;
        case Wait::warp:
          return 3;
        case Wait::warpgroup:
          return 2;
        case Wait::barrier:
          return 1;
        default:
          return 0;
      }
    };
    if (!worst || rank(t) > rank(*worst)) worst = &t;
  }
  m.current = static_cast<uint32_t>(worst - m.threads.data());
  Warp& w = warp();
  switch (worst->wait) {
    case Wait::registers:
      fault(Hazard::register_budget, "setmaxnreg waits for registers that nobody gives back: %u are spare",
            block().spare_registers);
    case Wait::mbarrier: {
      const Barrier& b = block().mbarriers.at(worst->wait_address);
      fault(Hazard::deadlock, "the mbarrier at 0x%x waits for %u of %u arrivals and %lld bytes in phase %u",
            worst->wait_address, b.pending, b.expected, static_cast<long long>(b.bytes), b.phase.times);
    }
    case Wait::warp:
      fault(Hazard::divergent_collective, "%s: %u of %u lanes arrived", w.meeting.operation, w.meeting.arrived,
            w.meeting.size);
    case Wait::warpgroup:
      fault(Hazard::divergent_collective, "%s: %u of %u threads arrived", warpgroup().meeting.operation,
            warpgroup().meeting.arrived, warpgroup().meeting.size);
    case Wait::barrier: {
      const Rendezvous& r = block().barriers[worst->wait_address];
      fault(Hazard::divergent_barrier, "barrier %u: %u of %u threads arrived", worst->wait_address, r.arrived, r.size);
    }
    case Wait::cluster:
      fault(Hazard::divergent_collective, "cluster barrier: %u of %u threads arrived", m.cluster.arrived,
            m.cluster.size);
    case Wait::nothing:
      break;
  }
  fault(Hazard::deadlock, "no thread can go on");
}

// Leaves the running fiber for good; run() reports.
[[noreturn]] void leave() {
  Machine& m = machine();
  switch_fiber(self().fiber, m.host);
  std::terminate();
}

void remember(const Fault& f) {
  Machine& m = machine();
  m.failed = true;
  m.hazard = f.hazard;
  m.message = f.what();
}

void thread_main() {
  fiber_entered();
  Machine& m = machine();
  try {
    m.body();
    check_no_copies_left();
    if (self().index % 128 == 0) check_no_wgmma_left();
    self().done = true;
    set_runnable(m.current, false);
    --block().live;
    if (--m.live > 0) yield();
  } catch (const Fault& f) {
    remember(f);
  }
  leave();
}

void prepare_cluster(uint32_t first_block) {
  Machine& m = machine();
  const Launch& l = *m.launch;
  const uint32_t warps = (l.threads + 31) / 32, groups = (l.threads + 127) / 128;
  m.agents = l.cluster * (warps + groups + 1);
  const View unknown{std::vector<uint32_t>(m.agents), std::vector<uint32_t>(m.agents)};
  const Rendezvous meeting{nullptr, 0, 0, {}, unknown, unknown};
  m.cluster = meeting;
  m.loads.clear();
  m.blocks.resize(l.cluster);
  for (uint32_t rank = 0; rank < l.cluster; ++rank) {
    Block& b = m.blocks[rank];
    b.index = first_block + rank;
    b.rank = rank;
    b.threads = b.live = l.threads;
    b.engine = static_cast<uint16_t>(l.cluster * (warps + groups) + rank);
    b.engine_tick = 1;
    b.spare_registers = 0;
    b.registers_returned = {};
    b.shared.assign(l.shared_bytes, 0xff);
    b.words.assign((l.shared_bytes + 3) / 4, Word{});
    b.reads.clear();
    b.barriers.assign(16, meeting);
    b.mbarriers.clear();
    b.warps.resize(warps);
    for (uint32_t i = 0; i < warps; ++i) {
      Warp& w = b.warps[i];
      w.agent = static_cast<uint16_t>(rank * warps + i);
      w.epoch = 1;
      w.view = unknown;
      w.view.order[w.agent] = 1;
      w.meeting = meeting;
    }
    b.warpgroups.resize(groups);
    for (uint32_t i = 0; i < groups; ++i) {
      Warpgroup& g = b.warpgroups[i];
      g.agent = static_cast<uint16_t>(l.cluster * warps + rank * groups + i);
      g.tick = 1;
      g.meeting = meeting;
      g.fenced = false;
      g.registers = l.registers;
      g.open.clear();
      g.groups.clear();
      g.accumulators.clear();
    }
  }
  m.threads.resize(size_t{l.cluster} * l.threads);
  m.stacks.reserve(m.threads.size());
  m.runnable.assign((m.threads.size() + 63) / 64, 0);
  for (size_t i = 0; i < m.threads.size(); ++i) {
    Thread& t = m.threads[i];
    t.block = &m.blocks[i / l.threads];
    t.index = static_cast<uint32_t>(i % l.threads);
    t.done = false;
    t.wait = Wait::nothing;
    t.dependency = l.unfinished_since == 0;
    t.fences.clear();
    t.open_copies.clear();
    t.copy_groups.clear();
    t.open_stores.clear();
    t.store_groups.clear();
    m.stacks.prepare(t.fiber, i, thread_main);
    set_runnable(static_cast<uint32_t>(i), true);
  }
  m.live = static_cast<uint32_t>(m.threads.size());
  m.polls = 0;
}

void run_cluster(uint32_t first_block) {
  Machine& m = machine();
  prepare_cluster(first_block);
  m.current = m.random(m.live);
  m.current = static_cast<uint32_t>(choose_thread());
  m.host = {};
  switch_fiber(m.host, self().fiber);
  if (m.failed) return;
  if (!m.loads.empty()) {
    try {
      fault(Hazard::unfinished_copy, "the block ended with %zu bulk loads under way", m.loads.size());
    } catch (const Fault& f) {
      remember(f);
    }
  }
}

}  // namespace

Machine the_machine;

uint32_t Machine::random(uint32_t below) {
  return static_cast<uint32_t>((next_random(random_state) >> 32) * below >> 32);
}

void join(View& into, const View& from) {
  for (size_t i = 0; i < into.order.size(); ++i) into.order[i] = std::max(into.order[i], from.order[i]);
  for (size_t i = 0; i < into.fenced.size(); ++i) into.fenced[i] = std::max(into.fenced[i], from.fenced[i]);
  into.dependency |= from.dependency;
}

void release(View& gathered) {
  Warp& w = warp();
  join(gathered, w.view);
  gathered.dependency |= self().dependency;
  ++w.view.order[w.agent];
}

void acquire(const View& released) {
  join(warp().view, released);
  self().dependency |= released.dependency;
}

void yield() {
  Machine& m = machine();
  // Copies land at any time in a random schedule; in the others when nothing else is left to do.
  if (!m.loads.empty() && m.launch->schedule == Schedule::random && m.random(128) == 0) complete_load(choose_load());
  int64_t next;
  while ((next = choose_thread()) < 0) {
    if (m.loads.empty()) report_standstill();
    complete_load(choose_load());
  }
  Thread& from = self();
  if (next == m.current) return;
  m.current = static_cast<uint32_t>(next);
  ++m.switches;
  switch_fiber(from.fiber, self().fiber);
}

void maybe_yield() {
  Machine& m = machine();
  if (m.launch->schedule != Schedule::random || m.accesses_left-- > 0) return;
  m.accesses_left = m.random(400);
  yield();
}

void wait_for(Event& event, Wait wait, uint32_t address) {
  Machine& m = machine();
  Thread& t = self();
  event.waiting.push_back(m.current);
  t.wait = wait;
  t.wait_address = address;
  set_runnable(m.current, false);
  yield();
  t.wait = Wait::nothing;
}

void signal(Event& event) {
  ++event.times;
  for (const uint32_t thread : event.waiting) set_runnable(thread, true);
  event.waiting.clear();
  machine().polls = 0;
}

bool arrive(Rendezvous& r, uint32_t size, const char* operation, Wait wait, uint32_t address) {
  ++self().meetings;
  if (r.arrived == 0) {
    r.operation = operation;
    r.size = size;
  } else if (r.operation != operation || r.size != size) {
    fault(wait == Wait::barrier ? Hazard::divergent_barrier : Hazard::divergent_collective,
          "%s of %u threads while others execute %s of %u", operation, size, r.operation, r.size);
  }
  if (++r.arrived == size) return true;
  wait_for(r.complete, wait, address);
  return false;
}

void let_go(Rendezvous& r) {
  r.arrived = 0;
  signal(r.complete);
}

uint32_t run(const Launch& launch, const std::function<void()>& body) {
  Machine& m = machine();
  if (m.running) throw std::logic_error("a kernel cannot launch a kernel");
  Launch checked = launch;
  check_launch(checked);
  m.launch = &checked;
  m.body = body;
  m.random_state = launch.seed;
  m.elected_lane = m.random(32);
  m.accesses_left = 0;
  m.failed = false;
  std::vector<uint32_t> order(launch.blocks / launch.cluster);  // blocks may run in any
  std::iota(order.begin(), order.end(), 0u);
  if (launch.schedule == Schedule::newest_first) std::reverse(order.begin(), order.end());
  for (size_t i = order.size(); launch.schedule == Schedule::random && i > 1; --i) {
    std::swap(order[i - 1], order[m.random(static_cast<uint32_t>(i))]);
  }
  const uint32_t number = ++m.launch_number;
  const HostAccess access;
  m.running = true;
  for (size_t i = 0; i < order.size() && !m.failed; ++i) run_cluster(order[i] * launch.cluster);
  m.running = false;
  m.launch = nullptr;
  if (m.failed) throw Fault(m.hazard, m.message);
  return number;
}

}  // namespace simt
