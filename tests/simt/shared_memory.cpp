// SPDX-License-Identifier: Apache-2.0
//
// Shared memory: bounds, alignment, and whether each access is ordered after those that it must not overlap with.
#include <algorithm>
#include <cstring>

#include "kernels/cuda/ptx.h"
#include "tests/simt/bank_conflicts.h"
#include "tests/simt/machine.h"

namespace simt {
namespace {

Word* words_at(Block& b, uint32_t address) { return b.words.data() + (address - kSharedBase) / 4; }
uint32_t address_of(const Block& b, const Word& w) {
  return kSharedBase + static_cast<uint32_t>(&w - b.words.data()) * 4;
}

// The bytes of the word at `word_address` that lie in [address, address + bytes), a bit each.
uint8_t byte_mask(uint32_t word_address, uint32_t address, uint32_t bytes) {
  uint8_t mask = 0;
  for (uint32_t i = 0; i < 4; ++i) {
    if (word_address + i >= address && word_address + i < address + bytes) mask |= static_cast<uint8_t>(1 << i);
  }
  return mask;
}

template <class Visit>
void for_words(Block& b, uint32_t address, uint32_t bytes, const Visit& visit) {
  Word* const first = words_at(b, address);
  Word* const last = words_at(b, address + bytes - 1);
  for (Word* w = first; w <= last; ++w) visit(*w);
}

uint32_t* readers(Block& b, Word& w) {
  if (w.reads < 0) {
    w.reads = static_cast<int32_t>(b.reads.size());
    b.reads.resize(b.reads.size() + machine().agents, 0);
  }
  return b.reads.data() + w.reads;
}

bool is_warp(uint16_t agent) { return agent < machine().launch->cluster * ((machine().launch->threads + 31) / 32); }

const Thread& writing_thread(const Word& w) {
  const Machine& m = machine();
  const uint32_t warps = (m.launch->threads + 31) / 32;
  return m.threads[size_t{w.writer / warps} * m.launch->threads + w.writer % warps * 32 + w.write_lane];
}

// Whether what last wrote the word is ordered before what `reader` does now. A thread knows of its own warp what other
// lanes did before the last warp-wide synchronisation.
bool write_is_ordered(const Word& w, const Warp& reader, bool by_thread) {
  if (w.writer == kNobody) return true;
  if (w.writer == reader.agent) return !by_thread || w.write_lane == lane() || w.write_epoch != reader.epoch;
  return reader.view.order[w.writer] >= w.written;
}

// Whether a proxy fence lies between the threads' stores to the word and what `reader` does now: executed by the
// writer before it released them, or by somebody who had acquired them.
bool is_fenced(const Word& w, const Warp& reader) {
  if (!w.generic || w.writer == kNobody) return true;
  if (reader.view.fenced[w.writer] >= w.written) return true;
  const Thread& writer = writing_thread(w);
  return w.fences < writer.fences.size() && reader.view.order[w.writer] >= writer.fences[w.fences];
}

void check_before_write(Block& b, Word& w, bool copy) {
  const Hazard race = copy ? Hazard::copy_race : Hazard::shared_race;
  const Warp& me = warp();
  const uint32_t address = address_of(b, w);
  if (w.barrier) fault(Hazard::mbarrier_misuse, "store to 0x%x, which is part of an mbarrier", address);
  if (w.copies_in) fault(Hazard::copy_race, "write to 0x%x, into which a copy is under way", address);
  if (w.async_reads) fault(Hazard::copy_race, "write to 0x%x while a wgmma or bulk store may read it", address);
  if (!write_is_ordered(w, me, true)) {
    fault(is_warp(w.writer) ? race : Hazard::copy_race, "write to 0x%x, not ordered after another one", address);
  }
  if (w.last_reader == me.agent && w.read_epoch == me.epoch && w.read_lane != lane()) {
    fault(race, "write to 0x%x, not ordered after the read by another lane", address);
  }
  if (w.reads < 0) return;
  const uint32_t* const reads = b.reads.data() + w.reads;
  for (uint32_t a = 0; a < machine().agents; ++a) {
    if (a != me.agent && reads[a] > me.view.order[a]) {
      fault(is_warp(static_cast<uint16_t>(a)) ? race : Hazard::copy_race,
            "write to 0x%x, not ordered after a read by agent %u", address, a);
    }
  }
}

void forget_reads(Block& b, Word& w) {
  w.last_reader = kNobody;
  if (w.reads >= 0) std::fill_n(b.reads.data() + w.reads, machine().agents, 0u);
}

void record_thread_write(Block& b, Word& w) {
  const Warp& me = warp();
  w.writer = me.agent;
  w.written = me.view.order[me.agent];
  w.write_epoch = me.epoch;
  w.write_lane = static_cast<uint8_t>(lane());
  w.fences = static_cast<uint32_t>(self().fences.size());
  w.generic = true;
  forget_reads(b, w);
}

void check_initialized(const Word& w, uint32_t word_address, uint32_t address, uint32_t bytes) {
  const uint8_t wanted = byte_mask(word_address, address, bytes);
  if ((w.initialized & wanted) != wanted) {
    fault(Hazard::uninitialized_shared, "read of 0x%x, which nothing has written", word_address);
  }
}

}  // namespace

uint8_t* Block::at(uint32_t address, uint32_t bytes, uint32_t alignment) {
  if (address % alignment) fault(Hazard::misaligned_access, "shared address 0x%x for %u bytes", address, alignment);
  if (address < kSharedBase || uint64_t{address} + bytes > kSharedBase + shared.size()) {
    fault(Hazard::shared_out_of_bounds, "%u bytes at 0x%x; the block has 0x%x to 0x%zx", bytes, address, kSharedBase,
          kSharedBase + shared.size());
  }
  return shared.data() + (address - kSharedBase);
}

void note_read(uint32_t address, uint32_t bytes) {
  Block& b = block();
  const Warp& me = warp();
  for_words(b, address, bytes, [&](Word& w) {
    const uint32_t at = address_of(b, w);
    if (w.copies_in) fault(Hazard::missing_copy_wait, "read of 0x%x, into which a copy is under way", at);
    if (!write_is_ordered(w, me, true)) {
      const bool thread = is_warp(w.writer);
      fault(thread ? Hazard::shared_race : Hazard::missing_copy_wait, "read of 0x%x, not ordered after the %s", at,
            thread ? "write by another thread" : "copy into it");
    }
    check_initialized(w, at, address, bytes);
    const bool same_epoch = w.last_reader == me.agent && w.read_epoch == me.epoch;
    w.read_lane = same_epoch && w.read_lane != lane() ? 0xff : static_cast<uint8_t>(lane());
    w.last_reader = me.agent;
    w.read_epoch = me.epoch;
    readers(b, w)[me.agent] = me.view.order[me.agent];
  });
}

void note_write(uint32_t address, uint32_t bytes) {
  Block& b = block();
  for_words(b, address, bytes, [&](Word& w) {
    check_before_write(b, w, false);
    record_thread_write(b, w);
    w.initialized |= byte_mask(address_of(b, w), address, bytes);
  });
}

void begin_copy_in(Block& b, uint32_t address, uint32_t bytes, bool async_proxy) {
  std::memset(b.at(address, bytes, 16), 0xff, bytes);  // whoever reads too early shall notice
  for_words(b, address, bytes, [&](Word& w) {
    check_before_write(b, w, true);
    if (async_proxy && !is_fenced(w, warp())) {
      fault(Hazard::missing_proxy_fence, "bulk copy into 0x%x, which a thread has stored to", address_of(b, w));
    }
    ++w.copies_in;
    w.initialized = 0;
  });
}

void end_copy_in(Block& b, uint32_t address, uint32_t bytes, bool async_proxy) {
  for_words(b, address, bytes, [&](Word& w) {
    --w.copies_in;
    w.initialized = 0xf;
    if (!async_proxy) return record_thread_write(b, w);
    w.writer = b.engine;
    w.written = b.engine_tick;
    w.generic = false;
    forget_reads(b, w);
  });
}

void begin_async_read(Block& b, const Warp& reader, uint32_t address, uint32_t bytes) {
  for_words(b, address, bytes, [&](Word& w) {
    const uint32_t at = address_of(b, w);
    if (w.copies_in) fault(Hazard::missing_copy_wait, "read of 0x%x, into which a copy is under way", at);
    if (!write_is_ordered(w, reader, false)) {
      const bool thread = is_warp(w.writer);
      fault(thread ? Hazard::copy_race : Hazard::missing_copy_wait,
            "asynchronous read of 0x%x, not ordered after the %s", at, thread ? "write by a thread" : "copy into it");
    }
    check_initialized(w, at, address, bytes);
    if (!is_fenced(w, reader)) {
      fault(Hazard::missing_proxy_fence, "asynchronous read of 0x%x, which a thread has stored to", at);
    }
    ++w.async_reads;
  });
}

void end_async_read(Block& b, uint16_t agent, uint32_t tick, uint32_t address, uint32_t bytes) {
  for_words(b, address, bytes, [&](Word& w) {
    --w.async_reads;
    uint32_t& when = readers(b, w)[agent];
    when = std::max(when, tick);
  });
}

void mark_barrier(uint32_t address) {
  for_words(block(), address, 8, [&](Word& w) { w.barrier = true; });
}

}  // namespace simt

namespace ptx {

using namespace simt;

namespace {

template <class Value>
Value load(uint32_t address, const Place& place) {
  maybe_yield();
  note_bank_access("load", place, address, sizeof(Value));
  const uint8_t* const from = block().at(address, sizeof(Value), sizeof(Value));
  note_read(address, sizeof(Value));
  Value v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class Value>
void store(uint32_t address, const Value& v, const Place& place) {
  maybe_yield();
  note_bank_access("store", place, address, sizeof(Value));
  uint8_t* const to = block().at(address, sizeof(Value), sizeof(Value));
  note_write(address, sizeof(Value));
  std::memcpy(to, &v, sizeof v);
}

}  // namespace

uint32_t smem_base() { return kSharedBase; }
uint32_t lds32(uint32_t address, const Place& place) { return load<uint32_t>(address, place); }
float lds32f(uint32_t address, const Place& place) { return load<float>(address, place); }
Float2 lds64f(uint32_t address, const Place& place) { return load<Float2>(address, place); }
Float4 lds128f(uint32_t address, const Place& place) { return load<Float4>(address, place); }
Word4 lds128(uint32_t address, const Place& place) { return load<Word4>(address, place); }
void sts32(uint32_t address, uint32_t v, const Place& place) { store(address, v, place); }
void sts32f(uint32_t address, float v, const Place& place) {
  check_value(v);
  store(address, v, place);
}
void sts64f(uint32_t address, float x, float y, const Place& place) {
  check_value(x), check_value(y);
  store(address, Float2{x, y}, place);
}
void sts128f(uint32_t address, Float4 v, const Place& place) {
  check_value(v.x), check_value(v.y), check_value(v.z), check_value(v.w);
  store(address, v, place);
}
void sts128(uint32_t address, Word4 v, const Place& place) { store(address, v, place); }

}  // namespace ptx
