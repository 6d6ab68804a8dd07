// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the CUDA kernels share: arrays on the device, a stream, and the schedules. The same tests run on the
// software device (tests/simt) and, linked with the CUDA runtime, on a GPU.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "tests/kernels/testing.h"
#if REWARDHEAD_SIMT
#include "tests/simt/runtime.h"
#endif

namespace rewardhead::kernels::cuda::testing {

using kernels::testing::draw;
using kernels::testing::Random;

inline void check(cudaError_t error) { ASSERT_EQ(error, cudaSuccess) << cudaGetErrorName(error); }

// On the software device: the order in which threads, blocks and copies go, as if that hurt. A GPU has its own.
#if REWARDHEAD_SIMT
inline constexpr const char* kSchedules[] = {"random", "newest", "oldest"};
inline void use_schedule(const std::string& name, uint64_t seed = 1) {
  simt::set_schedule(name == "random"   ? simt::Schedule::random
                     : name == "newest" ? simt::Schedule::newest_first
                                        : simt::Schedule::oldest_first,
                     seed);
}
#else
inline constexpr const char* kSchedules[] = {"device"};
inline void use_schedule(const std::string&, uint64_t = 1) {}
#endif

// Of the device; 0 where there is none that can be used, whatever the reason.
inline int capability() {
  int count = 0, major = 0, minor = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0));
  return 10 * major + minor;
}

inline cudaStream_t stream() {
  static const cudaStream_t created = [] {
    cudaStream_t made = nullptr;
    check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
    return made;
  }();
  return created;
}

// `count` elements on the device, between sentinel bytes, every bit of them set at first: NaN. Starts `offset` elements
// behind what cudaMalloc aligned.
template <class T>
class Array {
 public:
  explicit Array(int64_t count, int64_t offset = 0) : count_(count), front_(kSentinels + offset * int64_t{sizeof(T)}) {
    check(cudaMalloc(&base_, static_cast<size_t>(bytes() + front_ + kSentinels)));
    check(cudaMemsetAsync(base_, 0xa5, static_cast<size_t>(bytes() + front_ + kSentinels), stream()));
    check(cudaMemsetAsync(data(), 0xff, static_cast<size_t>(bytes()), stream()));
  }
  template <class Values>
  static Array of(const Values& values, int64_t offset = 0) {
    Array array(std::end(values) - std::begin(values), offset);
    array.set(values);
    return array;
  }
  Array(Array&& other) noexcept : base_(std::exchange(other.base_, nullptr)), count_(other.count_), front_(other.front_) {}
  Array& operator=(Array&&) = delete;
  ~Array() {
    if (!base_) return;
    std::vector<unsigned char> all(static_cast<size_t>(bytes() + front_ + kSentinels));
    check(cudaMemcpyAsync(all.data(), base_, all.size(), cudaMemcpyDeviceToHost, stream()));
    check(cudaStreamSynchronize(stream()));
    EXPECT_EQ(std::count(all.begin(), all.begin() + front_, 0xa5), front_) << "bytes before an array";
    EXPECT_EQ(std::count(all.end() - kSentinels, all.end(), 0xa5), kSentinels) << "bytes behind an array";
    cudaFree(base_);
  }

  template <class Values>
  void set(const Values& values) {
    check(cudaMemcpyAsync(data(), &*std::begin(values), static_cast<size_t>(bytes()), cudaMemcpyHostToDevice, stream()));
    check(cudaStreamSynchronize(stream()));
  }
  std::vector<T> values() const {
    std::vector<T> copy(static_cast<size_t>(count_));
    check(cudaMemcpyAsync(copy.data(), data(), static_cast<size_t>(bytes()), cudaMemcpyDeviceToHost, stream()));
    check(cudaStreamSynchronize(stream()));
    return copy;
  }
  T* data() const { return reinterpret_cast<T*>(static_cast<char*>(base_) + front_); }
  int64_t size() const { return count_; }

 private:
  static constexpr int64_t kSentinels = 256;
  int64_t bytes() const { return count_ * int64_t{sizeof(T)}; }
  void* base_ = nullptr;
  int64_t count_;
  int64_t front_;
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size() || a.empty()) return a.size() == b.size();
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// What is one member's of an array with a leading dimension of members.
inline std::vector<float> member_part(const std::vector<float>& values, int64_t member, int64_t members) {
  const int64_t size = std::ssize(values) / members;
  return {values.begin() + member * size, values.begin() + (member + 1) * size};
}

// Every test runs once for each schedule.
class DeviceTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    use_schedule(GetParam());
  }
  // Long lists of cases are dealt out among the schedules; a case keeps its number from run to run.
  bool takes(int turn) const {
    return kSchedules[static_cast<size_t>(turn) % std::size(kSchedules)] == std::string(GetParam());
  }
};

// Generated cases: all is drawn from the case's number, the schedule too. They come in fifths (README.md), after which
// the instances are named.
class GeneratedTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (capability() < 80) GTEST_SKIP() << "there is no GPU of compute capability 8.0 or later";
    use_schedule(kSchedules[static_cast<size_t>(GetParam()) % std::size(kSchedules)], random());
  }
  // One of the given ranges, then a number of it.
  int64_t draw_of(std::initializer_list<std::pair<int64_t, int64_t>> ranges) {
    const auto [first, last] = ranges.begin()[draw(random, 0, std::ssize(ranges) - 1)];
    return draw(random, first, last);
  }
  bool one_in(int n) { return draw(random, 1, n) == 1; }

  Random random{static_cast<uint64_t>(GetParam())};
};
#define RH_FIFTH(suite, count, fifth) \
  INSTANTIATE_TEST_SUITE_P(Fifth##fifth, suite, ::testing::Range(fifth, count, 5), ::testing::PrintToStringParamName())
#define RH_GENERATE(suite, count) \
  RH_FIFTH(suite, count, 0);      \
  RH_FIFTH(suite, count, 1);      \
  RH_FIFTH(suite, count, 2);      \
  RH_FIFTH(suite, count, 3);      \
  RH_FIFTH(suite, count, 4)

}  // namespace rewardhead::kernels::cuda::testing
