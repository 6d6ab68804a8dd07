// SPDX-License-Identifier: Apache-2.0
//
// A thread of a kernel is a fiber: a stack of its own, entered and left by a switch of a few nanoseconds. All run in
// the one thread of the host that launched them.
#pragma once

#include <cstddef>
#include <cstdint>
#if !defined(__x86_64__)
#define SIMT_UCONTEXT 1  // portable, and some hundred nanoseconds a switch
#endif
#if defined(SIMT_UCONTEXT)
#include <ucontext.h>
#endif

namespace simt {

struct Fiber {
#if defined(SIMT_UCONTEXT)
  ucontext_t context;
#else
  void* saved = nullptr;  // its stack pointer, where it stopped
#endif
  void* fake_stack = nullptr;  // of AddressSanitizer
  char* stack = nullptr;       // lowest address; null for the host's own
  size_t stack_bytes = 0;
};

// Pages between stacks are inaccessible.
class FiberStacks {
 public:
  FiberStacks() = default;
  FiberStacks(const FiberStacks&) = delete;
  FiberStacks& operator=(const FiberStacks&) = delete;
  ~FiberStacks();

  // Stacks 0 to count - 1; earlier ones move.
  void reserve(size_t count);
  // Makes `fiber` start with entry(), which never returns, on stack `index`.
  void prepare(Fiber& fiber, size_t index, void (*entry)());

 private:
  void release();

  char* memory_ = nullptr;
  size_t count_ = 0;
};

// Continues `to`; returns when something switches back to `from`.
void switch_fiber(Fiber& from, Fiber& to);
// The first thing that a fiber does.
void fiber_entered();

}  // namespace simt
