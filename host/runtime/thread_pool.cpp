// SPDX-License-Identifier: Apache-2.0
#include "host/runtime/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <string>

namespace rewardhead::runtime {
namespace {

// Pauses before a worker sleeps, tens of microseconds: the parallel regions of a step follow each other faster than
// that, and a worker that spins for longer takes the processor from whoever else has work.
constexpr int kSpins = 1000;

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int affinity_threads() {
  for (size_t processors = 1024; processors <= 1 << 16; processors *= 4) {
    std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(processors), [](cpu_set_t* s) { CPU_FREE(s); });
    const size_t bytes = CPU_ALLOC_SIZE(processors);
    if (set && sched_getaffinity(0, bytes, set.get()) == 0) return CPU_COUNT_S(bytes, set.get());
  }
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// CPUs that the control group allows; infinity where it sets no quota.
double quota_threads() {
  std::string quota;
  double period = 0;
  if (std::ifstream version2("/sys/fs/cgroup/cpu.max"); version2 >> quota >> period) {
    return quota == "max" ? INFINITY : std::stod(quota) / period;
  }
  double microseconds = 0;
  std::ifstream version1("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  std::ifstream version1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (version1 >> microseconds && version1_period >> period && microseconds > 0) return microseconds / period;
  return INFINITY;
}

}  // namespace

int available_threads() {
  return std::max(1, static_cast<int>(std::min<double>(affinity_threads(), std::ceil(quota_threads()))));
}

ThreadPool::ThreadPool(int threads) {
  try {
    workers_.reserve(threads - 1);
    for (int worker = 1; worker < threads; ++worker) workers_.emplace_back([this, worker] { work(worker); });
  } catch (...) {
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_.store(true);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::work(int worker) {
  for (uint32_t seen = 0;;) {
    uint64_t state = state_.load(std::memory_order_acquire);
    for (int spin = 0; spin < kSpins && number(state) == seen; ++spin) {
      pause_briefly();
      state = state_.load(std::memory_order_acquire);
    }
    if (number(state) == seen) {
      // Sleepers and state are sequentially consistent: either this thread sees the new job before it sleeps, or
      // run() sees a sleeper and wakes it.
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, [&] { return number(state_.load()) != seen || stopping_.load(); });
      sleepers_.fetch_sub(1);
      if (stopping_.load()) return;
      state = state_.load(std::memory_order_acquire);
    }
    while (state & kOpen && !state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) {
    }
    seen = number(state);
    if (!(state & kOpen)) continue;
    run_tasks(worker);
    state_.fetch_sub(1, std::memory_order_release);
  }
}

void ThreadPool::run_tasks(int worker) {
  for (;;) {
    const int64_t index = next_.fetch_add(1, std::memory_order_relaxed);
    if (index >= job_.tasks) return;
    job_.task(job_.context, index, worker);
  }
}

void ThreadPool::run(const Job& job) {
  job_ = job;
  next_.store(0, std::memory_order_relaxed);
  state_.store(static_cast<uint64_t>(number(state_.load(std::memory_order_relaxed)) + 1) << 32 | kOpen);
  if (sleepers_.load() > 0) {
    const std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  run_tasks(0);
  state_.fetch_and(~kOpen, std::memory_order_relaxed);
  // Those who joined are at their last task.
  for (int spin = 0; state_.load(std::memory_order_acquire) & kJoined; ++spin) {
    if (spin < kSpins) {
      pause_briefly();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadPool::Loan::run(void* self, int64_t tasks, kernels::Executor::Task task, const void* context) {
  Loan& loan = *static_cast<Loan*>(self);
  if (tasks > 1 && loan.workers_ && !loan.pool_.workers_.empty()) return loan.pool_.run({tasks, task, context});
  for (int64_t index = 0; index < tasks; ++index) task(context, index, 0);
}

}  // namespace rewardhead::runtime
