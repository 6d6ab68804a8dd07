// SPDX-License-Identifier: Apache-2.0
//
// Device memory: one reserved range of addresses, inaccessible except while the device works, as a GPU's memory is to
// the host. Every access of a kernel through a wrapper is checked against the allocations and, within a launch,
// against those of other blocks; with programmatic dependent launch, against those of the grids still running.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <new>

#include "kernels/cuda/ptx.h"
#include "tests/simt/machine.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace simt {
namespace {

constexpr size_t kArenaBytes = size_t{64} << 30;  // of addresses
constexpr size_t kAlignment = 256;
constexpr size_t kGap = 4096;  // between allocations
constexpr uint32_t kManyBlocks = 0x7fffffff;

// Who accessed 2 bytes last: launch number and block.
struct Trace {
  uint32_t write_launch, write_block : 31, atomic : 1;
  uint32_t read_launch, read_block;
};

struct Allocation {
  char* memory;
  size_t bytes;
  Trace* traces;  // [ceil(bytes / 2)]; pages that are never touched take no memory
  size_t trace_bytes() const { return (bytes + 1) / 2 * sizeof(Trace); }
};

void* reserve(size_t bytes) {
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return memory;
}

void poison([[maybe_unused]] const void* memory, [[maybe_unused]] size_t bytes, [[maybe_unused]] bool poisoned) {
#if defined(__SANITIZE_ADDRESS__)
  if (poisoned) {
    __asan_poison_memory_region(memory, bytes);
  } else {
    __asan_unpoison_memory_region(memory, bytes);
  }
#endif
}

struct Arena {
  char* base = static_cast<char*>(reserve(kArenaBytes));
  size_t used = 0;
  int accesses = 0;  // nested
  std::map<const char*, Allocation> allocations;
  const Allocation* last = nullptr;  // found

  Arena() { mprotect(base, kArenaBytes, PROT_NONE); }

  // From the first living allocation on: what was freed before it stays as it is.
  void protect(int protection) {
    if (allocations.empty()) return;
    char* const begin = base + (allocations.begin()->second.memory - base) / kGap * kGap;
    mprotect(begin, static_cast<size_t>(base + used - begin), protection);
  }

  const Allocation* find(const void* address) {
    const char* const a = static_cast<const char*>(address);
    if (last && a >= last->memory && a < last->memory + last->bytes) return last;
    auto i = allocations.upper_bound(a);
    if (i == allocations.begin()) return nullptr;
    const Allocation& found = std::prev(i)->second;
    if (a >= found.memory + found.bytes) return nullptr;
    return last = &found;
  }
};
Arena& arena() {
  static Arena a;
  return a;
}

}  // namespace

HostAccess::HostAccess() {
  Arena& a = arena();
  if (a.accesses++ == 0) a.protect(PROT_READ | PROT_WRITE);
}
HostAccess::~HostAccess() {
  Arena& a = arena();
  if (--a.accesses == 0) a.protect(PROT_NONE);
}

void* allocate(size_t bytes) {
  Arena& a = arena();
  // Addresses are not used twice, so a pointer to what was freed stays invalid.
  const size_t reserved = (bytes + kAlignment - 1) / kAlignment * kAlignment + kGap;
  if (bytes == 0 || bytes > kArenaBytes || reserved > kArenaBytes - a.used) return nullptr;
  Allocation made{a.base + a.used, bytes, nullptr};
  made.traces = static_cast<Trace*>(reserve(made.trace_bytes()));
  a.used = (a.used + reserved + kGap - 1) / kGap * kGap;
  a.allocations[made.memory] = made;
  const HostAccess access;
  if (a.accesses > 1) a.protect(PROT_READ | PROT_WRITE);
  poison(made.memory, reserved, true);
  poison(made.memory, bytes, false);
  std::memset(made.memory, 0xff, bytes);
  return made.memory;
}

bool free(void* memory) {
  Arena& a = arena();
  const auto i = a.allocations.find(static_cast<const char*>(memory));
  if (i == a.allocations.end()) return false;
  const Allocation& freed = i->second;
  poison(freed.memory, freed.bytes, true);
  madvise(freed.memory, freed.bytes / kGap * kGap, MADV_DONTNEED);
  munmap(freed.traces, freed.trace_bytes());
  a.last = nullptr;
  a.allocations.erase(i);
  return true;
}

bool is_device_memory(const void* memory, size_t bytes) {
  const Allocation* const a = arena().find(memory);
  return a && bytes <= static_cast<size_t>(a->memory + a->bytes - static_cast<const char*>(memory));
}

void note_global(const void* address, uint32_t bytes, uint32_t alignment, bool write, bool atomic) {
  if (reinterpret_cast<uintptr_t>(address) % alignment) {
    fault(Hazard::misaligned_access, "global address %p for %u bytes", address, alignment);
  }
  const Allocation* const a = arena().find(address);
  if (!a || bytes > static_cast<size_t>(a->memory + a->bytes - static_cast<const char*>(address))) {
    fault(Hazard::global_out_of_bounds, "%u bytes at %p", bytes, address);
  }
  const Machine& m = machine();
  const uint32_t launch = m.launch_number, me = self().block->index, unfinished = m.launch->unfinished_since;
  const bool early = !self().dependency;
  const size_t first = static_cast<size_t>(static_cast<const char*>(address) - a->memory) / 2;
  for (Trace* t = a->traces + first; t != a->traces + first + (bytes + 1) / 2; ++t) {
    const bool written_now = t->write_launch == launch, read_now = t->read_launch == launch;
    if (early &&
        ((!written_now && t->write_launch >= unfinished) || (write && !read_now && t->read_launch >= unfinished))) {
      fault(Hazard::early_access, "%s of %p, which an earlier grid %s, before griddepcontrol.wait",
            write ? "write" : "read", address, t->write_launch >= unfinished ? "writes" : "reads");
    }
    if (written_now && t->write_block != me && !(atomic && t->atomic)) {
      fault(Hazard::global_race, "%s of %p, which block %u of the same launch writes", write ? "write" : "read",
            address, t->write_block);
    }
    if (write && !atomic && read_now && t->read_block != me) {
      fault(Hazard::global_race, "write of %p, which block %u of the same launch reads", address, t->read_block);
    }
    if (write) {
      t->write_block = (written_now && t->write_block != me ? kManyBlocks : me) & kManyBlocks;
      t->write_launch = launch;
      t->atomic = atomic;
    } else {
      t->read_block = read_now && t->read_block != me ? kManyBlocks : me;
      t->read_launch = launch;
    }
  }
}

}  // namespace simt

namespace ptx {

using namespace simt;

namespace {

template <class Value>
Value load(const void* from) {
  maybe_yield();
  note_global(from, sizeof(Value), sizeof(Value), false);
  Value v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class Value>
void store(void* to, const Value& v) {
  maybe_yield();
  note_global(to, sizeof(Value), sizeof(Value), true);
  std::memcpy(to, &v, sizeof v);
}

template <class Change>
uint32_t exchange(uint32_t* to, const Change& change) {
  maybe_yield();
  note_global(to, sizeof *to, sizeof *to, true, true);
  const uint32_t old = *to;
  *to = change(old);
  return old;
}

}  // namespace

uint16_t ldg16(const void* from) { return load<uint16_t>(from); }
uint32_t ldg32(const void* from) { return load<uint32_t>(from); }
uint64_t ldg64(const void* from) { return load<uint64_t>(from); }
float ldg32f(const float* from) { return load<float>(from); }
Float4 ldg128f(const float* from) { return load<Float4>(from); }
Word4 ldg128(const void* from) { return load<Word4>(from); }
void stg16(void* to, uint16_t v) { store(to, v); }
void stg32(void* to, uint32_t v) {
  check_value(__builtin_bit_cast(float, v));
  store(to, v);
}
void stg64(void* to, uint64_t v) { store(to, v); }
void stg32f(float* to, float v) {
  check_value(v);
  store(to, v);
}
void stg64f(float* to, float x, float y) {
  check_value(x), check_value(y);
  store(to, Float2{x, y});
}
void stg128f(float* to, Float4 v) {
  check_value(v.x), check_value(v.y), check_value(v.z), check_value(v.w);
  store(to, v);
}
void stg128(void* to, Word4 v) { store(to, v); }
uint32_t atomic_add(uint32_t* to, uint32_t v) {
  return exchange(to, [&](uint32_t old) { return old + v; });
}
uint32_t atomic_or(uint32_t* to, uint32_t v) {
  return exchange(to, [&](uint32_t old) { return old | v; });
}

}  // namespace ptx
