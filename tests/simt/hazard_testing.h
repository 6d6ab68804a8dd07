// SPDX-License-Identifier: Apache-2.0
//
// A hazard is tested with two kernels that differ in one place: the one that commits it must be reported, by its name,
// whatever the schedule; its correct twin must run to the end.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/ptx.h"

namespace simt::testing {

// Device memory with a copy of host data, or NaNs.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count), data_(static_cast<T*>(allocate(count * sizeof(T)))) {}
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    const HostAccess access;
    std::memcpy(data_, values.data(), count_ * sizeof(T));
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { simt::free(data_); }
  T* data() { return data_; }
  std::vector<T> host() const {
    const HostAccess access;
    return std::vector<T>(data_, data_ + count_);
  }

 private:
  size_t count_;
  T* data_;
};

// What all kernels of the hazard tests are given.
struct Arguments {
  const float* in;     // [1024]: 0, 1, 2, ...
  float* out;          // [1024]
  ptx::TensorMap map;  // 64 rows of 64 elements of 2 bytes, all 1.0 in bf16; boxes of 8 rows, 1024 bytes
};
using HazardKernel = void (*)(Arguments);

inline const std::vector<std::pair<Schedule, uint64_t>>& schedules() {
  static const std::vector<std::pair<Schedule, uint64_t>> all = {
      {Schedule::oldest_first, 1}, {Schedule::newest_first, 1}, {Schedule::random, 1},
      {Schedule::random, 2},       {Schedule::random, 3},       {Schedule::random, 4}};
  return all;
}

class Hazards : public ::testing::Test {
 protected:
  Hazards() : in_(ascending()), out_(1024), matrix_(std::vector<uint16_t>(64 * 64, 0x3f80)) {
    arguments_ = {in_.data(), out_.data(), tensor_map(matrix_.data(), 64, 64, 128, 64, 8)};
  }

  // Every schedule reports one of `hazards`, and some schedule the first: of what a mistake leads to, the order of
  // events may bring any to light.
  void expect(const std::vector<Hazard>& hazards, HazardKernel wrong, HazardKernel right, Launch launch) {
    std::set<std::string> allowed, found;
    for (const Hazard hazard : hazards) allowed.insert(name(hazard));
    for (const auto& [schedule, seed] : schedules()) {
      launch.schedule = schedule;
      launch.seed = seed;
      const std::string report = reported(wrong, launch);
      EXPECT_TRUE(allowed.count(report)) << '"' << report << "\" in schedule " << int(schedule) << " seed " << seed;
      found.insert(report);
      EXPECT_EQ(reported(right, launch), "") << "the correct twin, schedule " << int(schedule) << " seed " << seed;
    }
    EXPECT_TRUE(found.count(name(hazards.front()))) << "no schedule reports " << name(hazards.front());
  }
  void expect(Hazard hazard, HazardKernel wrong, HazardKernel right, const Launch& launch) {
    expect(std::vector{hazard}, wrong, right, launch);
  }

  // The name of the hazard that stops the kernel, or nothing.
  std::string reported(HazardKernel kernel, const Launch& launch) {
    try {
      run(launch, kernel, arguments_);
    } catch (const Fault& f) {
      message_ = f.what();
      EXPECT_EQ(message_.rfind(name(f.hazard), 0), 0u) << message_;
      return name(f.hazard);
    }
    return "";
  }

  Arguments arguments_;
  std::string message_;

 private:
  static std::vector<float> ascending() {
    std::vector<float> values(1024);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
    return values;
  }
  DeviceArray<float> in_, out_;
  DeviceArray<uint16_t> matrix_;
};

inline Launch one_block(uint32_t threads, uint32_t shared_bytes = 4096) {
  Launch l;
  l.threads = threads;
  l.shared_bytes = shared_bytes;
  return l;
}

}  // namespace simt::testing
