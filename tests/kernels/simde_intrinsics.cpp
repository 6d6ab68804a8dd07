// SPDX-License-Identifier: Apache-2.0
// Compiled as the SIMDe build of kernels/cpu/avx512.cpp is.
#include "tests/kernels/simde_intrinsics.h"

#include <cstring>

namespace rewardhead::kernels::testing {

void simde_widen_half(const uint16_t (&from)[16], float (&to)[16]) {
  _mm512_storeu_ps(to, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
}

void simde_widen_unsigned(const uint16_t (&from)[16], uint32_t (&to)[16]) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  std::memcpy(to, &wide, sizeof to);
}

void simde_halves(const float (&from)[16], float (&low)[8], float (&high)[8]) {
  _mm256_storeu_ps(low, _mm512_extractf32x8_ps(_mm512_loadu_ps(from), 0));
  _mm256_storeu_ps(high, _mm512_extractf32x8_ps(_mm512_loadu_ps(from), 1));
}

void simde_shuffle_quarters(const float (&a)[16], const float (&b)[16], float (&to)[16]) {
  _mm512_storeu_ps(to, _mm512_shuffle_f32x4(_mm512_loadu_ps(a), _mm512_loadu_ps(b), _MM_SHUFFLE(0, 2, 1, 3)));
}

void simde_load_masked(const float* from, int mask, float (&to)[16]) {
  _mm512_storeu_ps(to, _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), from));
}

void simde_store_masked(const float (&from)[16], int mask, float* to) {
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>(mask), _mm512_loadu_ps(from));
}

}  // namespace rewardhead::kernels::testing
