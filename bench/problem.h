// SPDX-License-Identifier: Apache-2.0
//
// The data of one workload, the same for whoever computes it: X normal, parameters as torch.nn.Linear starts them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "bench/workloads.h"

namespace rewardhead::bench {

template <class T>
struct CacheLineAllocator {
  using value_type = T;
  CacheLineAllocator() = default;
  template <class U>
  CacheLineAllocator(const CacheLineAllocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(::operator new (n * sizeof(T), std::align_val_t{64})); }
  void deallocate(T* data, size_t) { ::operator delete (data, std::align_val_t{64}); }
  bool operator==(const CacheLineAllocator&) const { return true; }
};
template <class T>
using Array = std::vector<T, CacheLineAllocator<T>>;

// w1 [members, hidden, input], b1 and w2 [members, hidden], b2 [members], one after the other; the linear head w1 only.
struct Tensors {
  Tensors() = default;
  explicit Tensors(const Workload& workload);
  rh_tensors pointers() const;  // of const tensors, only to be read

  Array<float> values;

 private:
  int64_t w1_size_ = 0, hidden_size_ = 0;
};

struct Problem {
  explicit Problem(const Workload& workload);

  Workload workload;
  Array<float> x;          // [rows, input], if f32
  Array<uint16_t> x_bf16;  // if bf16
  Tensors parameters;
  Array<int32_t> chosen, rejected;  // empty if adjacent
};

// Standard normal values, cheap: a fixed block of them over and over, whose length divides no row.
void fill_normal(Array<float>& values, float scale);

}  // namespace rewardhead::bench
