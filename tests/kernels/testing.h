// SPDX-License-Identifier: Apache-2.0
//
// What the kernel tests share: the implementation under test, buffers that end at an inaccessible page, executors that
// run tasks in other orders and on other workers, and the storage types' encoders.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/kernel_table.h"
#include "kernels/storage.h"

namespace rewardhead::kernels {
// kernels/cpu/portable.cpp whatever the mask: always by lists of active rows; never by them, nor by the paths of few
// rows.
const KernelTable& portable_lists_table();
const KernelTable& portable_plain_table();
#if REWARDHEAD_SIMDE
const KernelTable& avx512_simde_table();  // kernels/cpu/avx512.cpp through simde_avx512.h
#endif
}  // namespace rewardhead::kernels

namespace rewardhead::kernels::testing {

// One row for each value of --isa (or REWARDHEAD_TEST_ISA) of the test program.
struct Implementation {
  const char* name;
  const char* needs;  // of the processor, in words
  bool usable;        // on this machine
  const KernelTable& (*table)();
};
const std::vector<Implementation>& implementations();
const Implementation& under_test();

// Every test of a kernel table: skipped, not passed, where the machine cannot run the implementation.
class KernelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!under_test().usable) GTEST_SKIP() << "this processor lacks one of " << under_test().needs;
  }
  const KernelTable& table() const { return under_test().table(); }
};

// `count` elements that end where an inaccessible page begins and start behind a run of sentinel bytes, which the
// destructor checks. Every bit is set at first: NaN for floating-point types.
template <class T>
class Guarded {
 public:
  explicit Guarded(int64_t count) : count_(count) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    accessible_ = (bytes + kFront + page - 1) / page * page;
    mapped_ = accessible_ + page;
    void* base = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(static_cast<char*>(base) + accessible_, page, PROT_NONE)) std::abort();
    base_ = static_cast<unsigned char*>(base);
    data_ = reinterpret_cast<T*>(base_ + accessible_ - bytes);
    std::memset(base_, kSentinel, accessible_ - bytes);
    std::memset(base_ + accessible_ - bytes, 0xff, bytes);
  }
  Guarded(Guarded&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)),
        data_(other.data_),
        count_(other.count_),
        accessible_(other.accessible_),
        mapped_(other.mapped_) {}
  Guarded& operator=(Guarded&&) = delete;
  ~Guarded() {
    if (!base_) return;
    const size_t front = accessible_ - static_cast<size_t>(count_) * sizeof(T);
    EXPECT_EQ(std::count(base_, base_ + front, kSentinel), static_cast<int64_t>(front)) << "bytes before a buffer";
    munmap(base_, mapped_);
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  T* begin() { return data_; }
  T* end() { return data_ + count_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + count_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }
  int64_t size() const { return count_; }

 private:
  static constexpr unsigned char kSentinel = 0xa5;
  static constexpr size_t kFront = 64;
  unsigned char* base_;
  T* data_;
  int64_t count_;
  size_t accessible_;
  size_t mapped_;
};

template <class T>
Guarded<T> copy_of(const Guarded<T>& from) {
  Guarded<T> copy(from.size());
  std::copy(from.begin(), from.end(), copy.begin());
  return copy;
}

using Workspace = Guarded<unsigned char>;  // every size is a multiple of kAlignment, and a page's end is aligned

inline Workspace make_workspace(size_t bytes) {
  EXPECT_EQ(bytes % kAlignment, 0u);
  return Workspace(static_cast<int64_t>(bytes));
}

// Equal bits; NaNs count by their bits too.
template <class A, class B>
bool same_bits(const A& a, const B& b) {
  static_assert(sizeof(*a.begin()) == sizeof(*b.begin()));
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& x, const auto& y) { return std::memcmp(&x, &y, sizeof x) == 0; });
}

// Runs tasks in descending order with worker numbers going round, or on threads of its own.
class TestExecutor {
 public:
  enum Kind { descending, threaded };
  explicit TestExecutor(int threads, Kind kind = descending) : threads_(threads), kind_(kind) {}
  operator Executor() { return {threads_, this, run}; }

 private:
  static void run(void* self, int64_t tasks, Executor::Task task, const void* context) {
    const TestExecutor& executor = *static_cast<TestExecutor*>(self);
    if (executor.kind_ == descending) {
      for (int64_t i = tasks; i-- > 0;) task(context, i, static_cast<int>((i + tasks / 2) % executor.threads_));
      return;
    }
    std::atomic<int64_t> next{0};
    const auto work = [&](int worker) {
      for (int64_t i; (i = next.fetch_add(1)) < tasks;) task(context, i, worker);
    };
    std::vector<std::thread> helpers;
    for (int worker = 1; worker < executor.threads_; ++worker) helpers.emplace_back(work, worker);
    work(0);
    for (std::thread& helper : helpers) helper.join();
  }
  int threads_;
  Kind kind_;
};

inline const char* dtype_name(Dtype dtype) {
  return dtype == Dtype::f32 ? "f32" : dtype == Dtype::f16 ? "f16" : "bf16";
}
inline constexpr Dtype kDtypes[] = {Dtype::f32, Dtype::f16, Dtype::bf16};
inline int64_t element_bytes(Dtype dtype) { return dtype == Dtype::f32 ? 4 : 2; }

// Rounds towards zero: the tests need values of the type, not the nearest ones.
inline uint16_t half_bits(float value) {
  if (value != value) return 0x7e00;
  const float magnitude = std::abs(value);
  uint32_t bits = 0;
  for (uint32_t step = 0x4000; step; step /= 2) {  // the order of magnitudes is that of their bits
    if ((bits | step) <= 0x7c00 && to_float(Half{static_cast<uint16_t>(bits | step)}) <= magnitude) bits |= step;
  }
  return static_cast<uint16_t>(bits | (std::signbit(value) ? 0x8000 : 0));
}

inline void store_element(Dtype dtype, float value, unsigned char* to) {
  if (dtype == Dtype::f32) {
    std::memcpy(to, &value, 4);
    return;
  }
  const uint16_t bits =
      dtype == Dtype::f16 ? half_bits(value) : static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
  std::memcpy(to, &bits, 2);
}

inline float load_element(Dtype dtype, const unsigned char* from) {
  if (dtype == Dtype::f32) {
    float value;
    std::memcpy(&value, from, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, from, 2);
  return dtype == Dtype::f16 ? to_float(Half{bits}) : to_float(BFloat16{bits});
}

using Random = std::mt19937_64;
inline int64_t draw(Random& random, int64_t first, int64_t last) {
  return first + static_cast<int64_t>(random() % static_cast<uint64_t>(last - first + 1));
}

}  // namespace rewardhead::kernels::testing
