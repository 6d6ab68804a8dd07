// SPDX-License-Identifier: Apache-2.0
#include "host/runtime/thread_pool.h"

#include <sched.h>

#include <chrono>

namespace rewardhead::runtime {
namespace {

// How long an idle worker spins before it sleeps. Between two calls from Python lie up to 200 microseconds (autograd
// alone takes a hundred), and to wake a worker takes 30 to 80, sometimes as long as the call, when it wakes on the
// caller's processor. One that spins for longer takes the processor from whoever else has work.
constexpr std::chrono::microseconds kIdle{300};
// Pauses of a caller that waits for the last task, tens of microseconds, before it lets others run.
constexpr int kSpins = 1000;

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

template <class Condition>
void spin_while(const Condition& idle) {
  const auto end = std::chrono::steady_clock::now() + kIdle;
  do {
    for (int spin = 0; spin < 64; ++spin) {
      if (!idle()) return;
      pause_briefly();
    }
  } while (std::chrono::steady_clock::now() < end);
}

// Moves the calling thread to the `steps`-th allowed processor after `from`, and then allows it all again. A thread
// starts where it is made; left there, a worker shares its caller's processor until the system balances: some 50 ms
// (Linux 6, two processors), in which two threads are no faster than one. A hint: a refusal changes nothing.
void move_away(int from, int steps) {
  cpu_set_t allowed;
  if (from < 0 || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  int processor = from;
  for (int step = 0; step < steps;) {
    processor = (processor + 1) % CPU_SETSIZE;
    if (CPU_ISSET(processor, &allowed)) ++step;
  }
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(processor, &one);
  if (sched_setaffinity(0, sizeof one, &one) == 0) sched_setaffinity(0, sizeof allowed, &allowed);
}

}  // namespace

ThreadPool::ThreadPool(int threads) : shares_(std::make_unique<Share[]>(threads)) {
  try {
    workers_.reserve(threads - 1);
    const int here = sched_getcpu();
    for (int worker = 1; worker < threads; ++worker) {
      workers_.emplace_back([this, worker, here] {
        move_away(here, worker);
        work(worker);
      });
    }
  } catch (...) {
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  stopping_.store(true, std::memory_order_relaxed);
  announce(number(state_.load(std::memory_order_relaxed)) + 1);
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::announce(uint32_t job) {
  announced_.store(job, std::memory_order_release);
  announced_.notify_all();  // a system call only where somebody sleeps
}

void ThreadPool::work(int worker) {
  for (uint32_t seen = 0;;) {
    spin_while([&] { return announced_.load(std::memory_order_acquire) == seen; });
    announced_.wait(seen, std::memory_order_acquire);
    if (stopping_.load(std::memory_order_relaxed)) return;
    uint64_t state = state_.load(std::memory_order_acquire);
    while (state & kOpen && !state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) {
    }
    seen = number(state);
    if (!(state & kOpen)) continue;
    run_tasks(worker);
    state_.fetch_sub(1, std::memory_order_release);
  }
}

void ThreadPool::run_tasks(int worker) {
  for (int step = 0; step < threads(); ++step) {
    const int owner = (worker + step) % threads();
    std::atomic<int64_t>& next = shares_[owner].next;
    const int64_t end = share_begin(owner + 1);
    // Looked at before it is written: to write what another worker writes to is dear.
    while (next.load(std::memory_order_relaxed) < end) {
      const int64_t index = next.fetch_add(1, std::memory_order_relaxed);
      if (index < end) job_.task(job_.context, index, worker);
    }
  }
}

void ThreadPool::run(const Job& job) {
  job_ = job;
  for (int worker = 0; worker < threads(); ++worker) {
    shares_[worker].next.store(share_begin(worker), std::memory_order_relaxed);
  }
  const uint32_t job_number = number(state_.load(std::memory_order_relaxed)) + 1;
  state_.store(static_cast<uint64_t>(job_number) << 32 | kOpen, std::memory_order_release);
  announce(job_number);
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

void ThreadPool::Loan::run(void* pool, int64_t tasks, kernels::Executor::Task task, const void* context) {
  if (tasks == 1) return task(context, 0, 0);
  static_cast<ThreadPool*>(pool)->run({tasks, task, context});
}

}  // namespace rewardhead::runtime
