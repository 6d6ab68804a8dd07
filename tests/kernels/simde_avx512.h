// SPDX-License-Identifier: Apache-2.0
//
// Compiles kernels/cpu/avx512.cpp for AVX2 machines: SIMDe supplies the AVX-512 intrinsics under their own names, and
// this header those that its version 0.7.4 lacks (simde_test.cpp checks each against scalar code). It is included
// ahead of the source, whose own #include <immintrin.h> then finds its guard set and the names taken.
#pragma once

#include <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#if defined(SIMDE_X86_AVX512F_NATIVE)
#error "compile this with AVX2 only: it stands in for AVX-512"
#endif

namespace rewardhead::kernels {
namespace {

inline simde__m512 simde_join(__m256 low, __m256 high) {
  simde__m512_private joined;
  joined.m256[0] = low;
  joined.m256[1] = high;
  return simde__m512_from_private(joined);
}

inline simde__m512 simde_cvtph_ps(__m256i halves) {
  return simde_join(_mm256_cvtph_ps(_mm256_castsi256_si128(halves)),
                    _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1)));
}

inline simde__m512i simde_cvtepu16_epi32(__m256i words) {
  simde__m512i_private wide;
  wide.m256i[0] = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(words));
  wide.m256i[1] = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(words, 1));
  return simde__m512i_from_private(wide);
}

inline __m256 simde_extractf32x8_ps(simde__m512 value, int half) { return simde__m512_to_private(value).m256[half]; }

inline __m256i simde_lanes(uint32_t mask) {  // all bits of lane i: bit i of the mask
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(mask)), bits), bits);
}
inline simde__m512 simde_maskz_loadu_ps(uint32_t mask, const float* from) {
  return simde_join(_mm256_maskload_ps(from, simde_lanes(mask)), _mm256_maskload_ps(from + 8, simde_lanes(mask >> 8)));
}
inline void simde_mask_storeu_ps(float* to, uint32_t mask, simde__m512 value) {
  _mm256_maskstore_ps(to, simde_lanes(mask), simde__m512_to_private(value).m256[0]);
  _mm256_maskstore_ps(to + 8, simde_lanes(mask >> 8), simde__m512_to_private(value).m256[1]);
}

}  // namespace
}  // namespace rewardhead::kernels

#undef _mm512_cvtph_ps
#define _mm512_cvtph_ps(halves) ::rewardhead::kernels::simde_cvtph_ps(halves)
#undef _mm512_cvtepu16_epi32
#define _mm512_cvtepu16_epi32(words) ::rewardhead::kernels::simde_cvtepu16_epi32(words)
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps(value, half) ::rewardhead::kernels::simde_extractf32x8_ps(value, half)
#undef _mm512_maskz_loadu_ps
#define _mm512_maskz_loadu_ps(mask, from) ::rewardhead::kernels::simde_maskz_loadu_ps(mask, from)
#undef _mm512_mask_storeu_ps
#define _mm512_mask_storeu_ps(to, mask, value) ::rewardhead::kernels::simde_mask_storeu_ps(to, mask, value)
#undef _mm512_shuffle_f32x4  // SIMDe has it, but not under this name
#define _mm512_shuffle_f32x4(a, b, quarters) simde_mm512_shuffle_f32x4(a, b, quarters)
