// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

// The intrinsics that simde_avx512.h supplies, on arrays, so that their test needs no instruction set.
namespace rewardhead::kernels::testing {

void simde_widen_half(const uint16_t (&from)[16], float (&to)[16]);             // _mm512_cvtph_ps
void simde_widen_unsigned(const uint16_t (&from)[16], uint32_t (&to)[16]);      // _mm512_cvtepu16_epi32
void simde_halves(const float (&from)[16], float (&low)[8], float (&high)[8]);  // _mm512_extractf32x8_ps, 0 and 1
// _mm512_shuffle_f32x4 with the selector 3, 1, 2, 0 (lowest first)
void simde_shuffle_quarters(const float (&a)[16], const float (&b)[16], float (&to)[16]);

void simde_load_masked(const float* from, int mask, float (&to)[16]);
void simde_store_masked(const float (&from)[16], int mask, float* to);

}  // namespace rewardhead::kernels::testing
