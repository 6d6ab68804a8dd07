// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernel_table.h"

namespace rewardhead::kernels {

// Carves a workspace into aligned pieces. Over a null base it only adds up, so one function both sizes and carves.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<unsigned char*>(base)) {}

  template <class T>
  [[gnu::always_inline]] T* take(int64_t count) {
    T* piece = base_ ? reinterpret_cast<T*>(base_ + bytes_) : nullptr;
    bytes_ += (static_cast<size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return piece;
  }
  [[gnu::always_inline]] size_t bytes() const { return bytes_; }

 private:
  unsigned char* base_;
  size_t bytes_ = 0;
};

}  // namespace rewardhead::kernels
