// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/kernel_table.h"

namespace rewardhead::runtime {

// All tasks on the calling thread.
inline kernels::Executor serial_executor() {
  return {1, nullptr, [](void*, int64_t tasks, kernels::Executor::Task task, const void* context) {
            for (int64_t index = 0; index < tasks; ++index) task(context, index, 0);
          }};
}

// Workers that spread independent tasks: the caller is worker 0. Idle workers spin for a moment, then sleep.
//
// Of a job's tasks each worker has a share of its own, one after another, and as many as the others or one more; who
// is done helps the next. So what neighbouring tasks touch stays in one processor's caches, and what the same task of
// the next job, or of the next call, touches again is there already.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // throws std::system_error where no thread can be started
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Lends the workers to one caller at a time; to any further caller it lends none, and its tasks run on its thread.
  class Loan {
   public:
    explicit Loan(ThreadPool& pool) : pool_(pool), workers_(!pool.lent_.exchange(true, std::memory_order_acquire)) {}
    ~Loan() {
      if (workers_) pool_.lent_.store(false, std::memory_order_release);
    }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    kernels::Executor executor() {
      return workers_ && pool_.threads() > 1 ? kernels::Executor{pool_.threads(), &pool_, run} : serial_executor();
    }

   private:
    static void run(void* pool, int64_t tasks, kernels::Executor::Task task, const void* context);
    ThreadPool& pool_;
    bool workers_;
  };

 private:
  struct Job {
    int64_t tasks;
    kernels::Executor::Task task;
    const void* context;
  };
  // The next task of a worker's share to be taken; beyond the share where none is left.
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
  };
  int64_t share_begin(int worker) const { return job_.tasks * worker / threads(); }
  void work(int worker);
  void run_tasks(int worker);
  void run(const Job& job);
  void announce(uint32_t job);  // wakes the workers
  void stop();

  // One word holds the number of the job (upper half), whether it may still be joined (kOpen), and how many workers
  // have joined. A worker that wakes too late finds the job closed, and nobody has waited for it.
  static constexpr uint64_t kOpen = uint64_t{1} << 31;
  static constexpr uint64_t kJoined = kOpen - 1;
  static uint32_t number(uint64_t state) { return static_cast<uint32_t>(state >> 32); }

  std::vector<std::thread> workers_;
  std::atomic<bool> lent_{false};
  Job job_{};
  std::unique_ptr<Share[]> shares_;  // of each worker
  alignas(64) std::atomic<uint64_t> state_{0};
  // The number of the newest job, or one beyond it at the end: what idle workers watch, and sleep on. Four bytes, so
  // that waiting is a futex and takes no lock.
  alignas(64) std::atomic<uint32_t> announced_{0};
  std::atomic<bool> stopping_{false};
};

}  // namespace rewardhead::runtime
