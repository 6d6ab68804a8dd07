// SPDX-License-Identifier: Apache-2.0
#include "tests/simt/fiber.h"

#include <sys/mman.h>

#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = 256 << 10;  // its frames are larger
#else
constexpr size_t kStackBytes = 64 << 10;
#endif
constexpr size_t kGuardBytes = 4 << 10;
constexpr size_t kStride = kStackBytes + kGuardBytes;

// AddressSanitizer has to know which stack is current; of the host's it tells us as soon as we have left it.
[[maybe_unused]] Fiber* left_host = nullptr;
void before_switch([[maybe_unused]] Fiber& from, [[maybe_unused]] const Fiber& to) {
#if defined(__SANITIZE_ADDRESS__)
  if (!from.stack) left_host = &from;
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
#endif
}
void after_switch([[maybe_unused]] void* fake_stack) {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom;
  size_t bytes;
  __sanitizer_finish_switch_fiber(fake_stack, &bottom, &bytes);
  if (!left_host) return;
  left_host->stack = static_cast<char*>(const_cast<void*>(bottom));
  left_host->stack_bytes = bytes;
  left_host = nullptr;
#endif
}

#if defined(SIMT_UCONTEXT)

void start_at(Fiber& fiber, void (*entry)()) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = fiber.stack_bytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
}
void jump(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }

#else

// Saves what the System V ABI has a function preserve, and the stack pointer.
extern "C" void rh_simt_switch(void** save, void* load);
asm(R"(
  .text
  .type rh_simt_switch, @function
rh_simt_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
  .size rh_simt_switch, . - rh_simt_switch
)");

void start_at(Fiber& fiber, void (*entry)()) {
  void** top = reinterpret_cast<void**>(fiber.stack + fiber.stack_bytes - 64);
  *--top = nullptr;  // where a return address would be: aligns the stack as a call does
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  fiber.saved = top;
}
void jump(Fiber& from, Fiber& to) { rh_simt_switch(&from.saved, to.saved); }

#endif

}  // namespace

FiberStacks::~FiberStacks() { release(); }

void FiberStacks::release() {
  if (!memory_) return;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(memory_, count_ * kStride);  // whoever gets these addresses next
#endif
  munmap(memory_, count_ * kStride);
  memory_ = nullptr;
}

void FiberStacks::reserve(size_t count) {
  if (count <= count_) return;
  release();
  count_ = count;
  void* const memory =
      mmap(nullptr, count * kStride, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<char*>(memory);
  for (size_t i = 0; i < count; ++i) mprotect(memory_ + i * kStride, kGuardBytes, PROT_NONE);
}

void FiberStacks::prepare(Fiber& fiber, size_t index, void (*entry)()) {
  fiber.stack = memory_ + index * kStride + kGuardBytes;
  fiber.stack_bytes = kStackBytes;
  fiber.fake_stack = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fiber.stack, kStackBytes);  // an abandoned fiber leaves its frames poisoned
#endif
  start_at(fiber, entry);
}

void switch_fiber(Fiber& from, Fiber& to) {
  before_switch(from, to);
  jump(from, to);
  after_switch(from.fake_stack);
}

void fiber_entered() { after_switch(nullptr); }

}  // namespace simt
