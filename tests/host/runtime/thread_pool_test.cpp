// SPDX-License-Identifier: Apache-2.0
#include "host/runtime/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <random>

namespace rewardhead::runtime {
namespace {

// Runs one job; every task must run once, on a worker in range that runs no other task meanwhile.
void expect_every_task_once(ThreadPool::Loan& loan, int64_t tasks, int threads) {
  const kernels::Executor executor = loan.executor();
  ASSERT_EQ(executor.threads, threads);
  std::vector<int> runs(tasks);                      // plain: the pool orders the accesses, or ThreadSanitizer tells
  std::vector<std::atomic<bool>> occupied(threads);  // by worker
  std::atomic<int> wrong{0};
  executor.for_each(tasks, [&](int64_t index, int worker) {
    if (worker < 0 || worker >= threads || occupied[worker].exchange(true)) ++wrong;
    ++runs[index];
    occupied[worker].store(false);
  });
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(std::count(runs.begin(), runs.end(), 1), tasks);
}

TEST(ThreadPool, EveryTaskOnce) {
  std::mt19937 random(81);
  for (const int threads : {1, 2, 3, 7, 16}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    ThreadPool::Loan loan(pool);
    for (int job = 0; job < 300; ++job) expect_every_task_once(loan, random() % 40, threads);
  }
}

// Two tasks that wait for each other: the caller and a worker must take one each, which is the one of its share.
bool both_take_part(ThreadPool& pool) {
  ThreadPool::Loan loan(pool);
  std::atomic<int> arrived{0};
  std::atomic<bool> met{true};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  loan.executor().for_each(2, [&](int64_t index, int worker) {
    if (index != worker) met = false;
    ++arrived;
    while (arrived < 2 && met) {
      std::this_thread::yield();
      if (std::chrono::steady_clock::now() > deadline) met = false;
    }
  });
  return met;
}

TEST(ThreadPool, WorkersTakePart) {
  ThreadPool pool(2);
  for (int job = 0; job < 20; ++job) ASSERT_TRUE(both_take_part(pool));
}

// One worker is held up at its first task; the other does all the rest, of both shares.
TEST(ThreadPool, WhoIsDoneHelps) {
  ThreadPool pool(2);
  for (const int held : {0, 1}) {
    ThreadPool::Loan loan(pool);
    std::atomic<int> done{0};
    std::atomic<bool> in_time{true};
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    std::atomic<bool> arrived{false};
    const auto wait_for = [&](const auto& condition) {
      while (!condition() && in_time) {
        std::this_thread::yield();
        if (std::chrono::steady_clock::now() > deadline) in_time = false;
      }
    };
    loan.executor().for_each(20, [&](int64_t, int worker) {
      if (worker == held) {
        arrived = true;
        wait_for([&] { return done == 19; });
      } else {
        wait_for([&] { return arrived.load(); });
        ++done;
      }
    });
    EXPECT_TRUE(in_time);
    EXPECT_EQ(done, 19);
  }
}

// Workers may run on all processors that their maker may, wherever they start.
TEST(ThreadPool, WorkersKeepTheAffinity) {
  cpu_set_t mine;
  ASSERT_EQ(sched_getaffinity(0, sizeof mine, &mine), 0);
  ThreadPool pool(2);
  ASSERT_TRUE(both_take_part(pool));
  std::array<cpu_set_t, 2> masks{};
  ThreadPool::Loan loan(pool);
  std::atomic<int> arrived{0};
  loan.executor().for_each(2, [&](int64_t, int worker) {
    sched_getaffinity(0, sizeof masks[worker], &masks[worker]);
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    for (++arrived; arrived < 2 && std::chrono::steady_clock::now() < deadline;) std::this_thread::yield();
  });
  for (const cpu_set_t& mask : masks) EXPECT_TRUE(CPU_EQUAL(&mask, &mine));
}

// After a few milliseconds without work the workers sleep, and must wake.
TEST(ThreadPool, SleepingWorkersWake) {
  ThreadPool pool(2);
  for (const int milliseconds : {0, 1, 5, 20, 50}) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    ASSERT_TRUE(both_take_part(pool)) << "after " << milliseconds << " ms";
  }
}

TEST(ThreadPool, FurtherCallersWorkAlone) {
  ThreadPool pool(4);
  ThreadPool::Loan first(pool);
  {
    ThreadPool::Loan second(pool);
    const std::thread::id caller = std::this_thread::get_id();
    bool alone = true;
    second.executor().for_each(
        50, [&](int64_t, int worker) { alone = alone && worker == 0 && std::this_thread::get_id() == caller; });
    EXPECT_TRUE(alone);
    EXPECT_EQ(second.executor().threads, 1);
  }
  expect_every_task_once(first, 50, 4);
}

TEST(ThreadPool, ManyCallers) {
  ThreadPool pool(3);
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int job = 0; job < 200; ++job) {
        ThreadPool::Loan loan(pool);
        expect_every_task_once(loan, 12, loan.executor().threads);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST(ThreadPool, StartsAndStopsQuickly) {
  for (int i = 0; i < 100; ++i) {
    ThreadPool pool(1 + i % 5);
    if (i % 2) continue;  // stopped before the workers have looked for work
    ThreadPool::Loan loan(pool);
    expect_every_task_once(loan, 7, 1 + i % 5);
  }
}

}  // namespace
}  // namespace rewardhead::runtime
