// SPDX-License-Identifier: Apache-2.0
//
// An execute allocates nothing and locks nothing: operator new is replaced here, and the linker sends the library's
// calls of the C functions for both through the wrappers below (--wrap in CMakeLists.txt).
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <new>
#include <thread>

#include "tests/host/runtime/step.h"

namespace {
std::atomic<int64_t> allocations{0};
std::atomic<int64_t> locks{0};
}  // namespace

extern "C" {
int __real_pthread_mutex_lock(pthread_mutex_t* mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t* mutex) {
  ++locks;
  return __real_pthread_mutex_lock(mutex);
}
void* __real_malloc(size_t bytes);
void* __real_calloc(size_t count, size_t bytes);
void* __real_aligned_alloc(size_t alignment, size_t bytes);
void* __wrap_malloc(size_t bytes) {
  ++allocations;
  return __real_malloc(bytes);
}
void* __wrap_calloc(size_t count, size_t bytes) {
  ++allocations;
  return __real_calloc(count, bytes);
}
void* __wrap_aligned_alloc(size_t alignment, size_t bytes) {
  ++allocations;
  return __real_aligned_alloc(alignment, bytes);
}
}

void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = __real_malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  ++allocations;
  const size_t unit = static_cast<size_t>(alignment);
  if (void* memory = __real_aligned_alloc(unit, (bytes + unit - 1) / unit * unit)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace rewardhead::runtime::testing {
namespace {

TEST(Allocation, ExecutesNeverAllocateOrLock) {
  for (int i = 1; rh_isa_name(i); ++i) {
    for (const int threads : {1, 3}) {
      const rh_context_options options = {sizeof options, RH_DEVICE_CPU, rh_isa_name(i), threads, nullptr, nullptr};
      rh_context* created = nullptr;
      if (rh_context_create(&options, &created) == RH_UNSUPPORTED) continue;
      const Context context(created);
      for (const int64_t hidden : {0, 20}) {
        const int64_t start = allocations;
        const Plan plan = make_plan(context.get(), plan_options(700, 300, hidden, 300));
        EXPECT_GT(allocations, start) << "the counter counts nothing";
        const WorkspaceMemory memory(plan.get());
        Step step(700, 300, hidden, 300);
        const int64_t before = allocations, locks_before = locks;
        bool good = true;
        for (int repeat = 0; repeat < 3; ++repeat) {
          std::this_thread::sleep_for(std::chrono::milliseconds(2));  // the workers go to sleep, and must be woken
          for (const Call which : {forward, pair_loss, backward, adamw, train, loss_gradients}) {
            good = step.call(which, plan.get(), memory.get()) == RH_OK && good;
          }
        }
        EXPECT_EQ(allocations, before) << rh_isa_name(i);
        EXPECT_EQ(locks, locks_before) << rh_isa_name(i);
        EXPECT_TRUE(good);
      }
    }
  }
}

}  // namespace
}  // namespace rewardhead::runtime::testing
