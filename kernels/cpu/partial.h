// SPDX-License-Identifier: Apache-2.0
//
// Vector access at the end of a row: the first `count` lanes from or to memory, never a byte beyond.
#pragma once

#include <cstdint>

#include "kernels/storage.h"

namespace rewardhead::kernels {
namespace {

// Lanes from `count` on are zero.
template <class V, class Element>
typename V::Vector load_partial(const Element* from, int64_t count) {
  if (count >= V::lanes) return V::load(from);
  alignas(kAlignment) float lanes[V::lanes] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = to_float(from[i]);
  return V::load(lanes);
}

template <class V>
void store_partial(float* to, typename V::Vector value, int64_t count) {
  if (count >= V::lanes) return V::store(to, value);
  alignas(kAlignment) float lanes[V::lanes];
  V::store(lanes, value);
  for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

}  // namespace
}  // namespace rewardhead::kernels
