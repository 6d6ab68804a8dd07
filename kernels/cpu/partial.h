// SPDX-License-Identifier: Apache-2.0
//
// Vector access at the end of a row: the first `count` lanes from or to memory, never a byte beyond.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/storage.h"

namespace rewardhead::kernels {
namespace {

// Lanes from `count` on are zero.
template <class V, class Element>
typename V::Vector load_partial(const Element* from, int64_t count) {
  if (count >= V::lanes) return V::load(from);
  if constexpr (requires { V::load_first(from, count); }) return V::load_first(from, count);
  alignas(kAlignment) float lanes[V::lanes] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = to_float(from[i]);
  return V::load(lanes);
}

template <class V>
void store_partial(float* to, typename V::Vector value, int64_t count) {
  if (count >= V::lanes) return V::store(to, value);
  if constexpr (requires { V::store_first(to, value, count); }) return V::store_first(to, value, count);
  alignas(kAlignment) float lanes[V::lanes];
  V::store(lanes, value);
  for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

// access(elements) with `count` elements, or, where those are fewer than two vectors, a copy followed by zeros.
template <class V, class Element, class Access>
[[gnu::always_inline]] inline auto from_partial(const Element* from, int64_t count, const Access& access) {
  if (count >= 2 * V::lanes) return access(from);
  alignas(kAlignment) Element elements[2 * V::lanes] = {};
  std::copy_n(from, count, elements);
  return access(static_cast<const Element*>(elements));
}
template <class V, class Access>
[[gnu::always_inline]] inline void to_partial(float* to, int64_t count, const Access& access) {
  if (count >= 2 * V::lanes) return access(to);
  alignas(kAlignment) float elements[2 * V::lanes];
  access(elements);
  std::copy_n(elements, count, to);
}

}  // namespace
}  // namespace rewardhead::kernels
