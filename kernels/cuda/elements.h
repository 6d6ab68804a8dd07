// SPDX-License-Identifier: Apache-2.0
//
// Elements of X and of the parameters, eight at a time, as fp32: in 16-byte loads where the row allows it, one by one
// where it is not aligned or ends. Both give the same values in the same places.
#pragma once

#include <cstdint>

#include "kernels/cuda/ptx.h"
#include "kernels/cuda/scalar.h"
#include "kernels/kernel_table.h"
#include "kernels/storage.h"

namespace rewardhead::kernels::cuda {

struct Eight {
  float v[8];
};

template <ptx::Input kInput>
RH_DEVICE Eight widen_eight(ptx::Word4 words) {
  return {{ptx::low<kInput>(words.x), ptx::high<kInput>(words.x), ptx::low<kInput>(words.y), ptx::high<kInput>(words.y),
           ptx::low<kInput>(words.z), ptx::high<kInput>(words.z), ptx::low<kInput>(words.w), ptx::high<kInput>(words.w)}};
}

// How an element type is read; `Element` is float, or one of kernels/storage.h.
template <class Element>
struct Storage;
template <ptx::Input kInput>
struct Storage16 {
  static RH_DEVICE float load(const void* from) { return ptx::low<kInput>(ptx::ldg16(from)); }
  static RH_DEVICE Eight load_eight(const void* from) { return widen_eight<kInput>(ptx::ldg128(from)); }
  static RH_DEVICE Eight load_eight_shared(uint32_t from) { return widen_eight<kInput>(ptx::lds128(from)); }
};
template <>
struct Storage<Half> : Storage16<ptx::Input::f16> {};
template <>
struct Storage<BFloat16> : Storage16<ptx::Input::bf16> {};
template <>
struct Storage<float> {
  static RH_DEVICE float load(const float* from) { return ptx::ldg32f(from); }
  static RH_DEVICE Eight load_eight(const float* from) {
    const ptx::Float4 a = ptx::ldg128f(from), b = ptx::ldg128f(from + 4);
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
  }
  // Lanes lie 32 bytes apart: of eight, four take their halves the other way round, so that each bank is used once.
  static RH_DEVICE Eight load_eight_shared(uint32_t from) {
    const bool turned = from & 128;
    const ptx::Float4 one = ptx::lds128f(from + (turned ? 16 : 0)), other = ptx::lds128f(from + (turned ? 0 : 16));
    const ptx::Float4 a = turned ? other : one, b = turned ? one : other;
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
  }
};

RH_DEVICE bool is_aligned16(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// from[0 .. min(left, 8)), then zeros. `vectors`: `from` is aligned to 16 bytes.
template <class Element>
RH_DEVICE Eight load_eight(const Element* from, int64_t left, bool vectors) {
  if (vectors && left >= 8) return Storage<Element>::load_eight(from);
  Eight values;
  RH_UNROLL for (int i = 0; i < 8; ++i) values.v[i] = i < left ? Storage<Element>::load(from + i) : 0.0f;
  return values;
}

// The next plane (planes.h) of two values, which keep what it leaves. Beyond an infinity or a NaN nothing is left.
template <ptx::Input kInput>
RH_DEVICE uint32_t take_plane(float& a, float& b) {
  const uint32_t pair = ptx::pack<kInput>(a, b);
  const auto rest = [](float value, float plane) { return fabsf(plane) <= 0x1.fffffep127f ? value - plane : 0.0f; };
  a = rest(a, ptx::low<kInput>(pair));
  b = rest(b, ptx::high<kInput>(pair));
  return pair;
}

// Whether every row of a matrix is aligned to 16 bytes.
template <class Element>
bool has_aligned_rows(const void* data, int64_t stride) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride * static_cast<int64_t>(sizeof(Element)) % 16 == 0;
}

}  // namespace rewardhead::kernels::cuda
