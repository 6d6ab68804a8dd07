// SPDX-License-Identifier: Apache-2.0
//
// Sixteen lanes: AVX-512 F, BW, DQ and VL. `tests/kernels` compiles this file for AVX2 machines as well, so that it
// is tested where the processor lacks the instructions.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/storage.h"

namespace rewardhead::kernels {
namespace {

struct Avx512 {
  using Vector = __m512;
  static constexpr const char* name = "avx512";
  static constexpr int lanes = 16;
  // Forward tile: 6 hidden x 4 vectors of rows = 24 accumulators, with 4 of X and 1 of W1: 29 of 32 registers. The 64
  // rows are one word of the mask, and ten loads feed 24 FMAs.
  static constexpr int tile_hidden = 6;
  static constexpr int tile_vectors = 4;

  static Vector set(float value) { return _mm512_set1_ps(value); }
  static Vector load(const float* from) { return _mm512_loadu_ps(from); }
  static Vector load(const Half* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static Vector load(const BFloat16* from) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  static void store(float* to, Vector value) { _mm512_storeu_ps(to, value); }
  // The first `count` < lanes elements; nothing beyond is touched, and those lanes are zero.
  static Vector load_first(const float* from, int64_t count) {
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1 << count) - 1), from);
  }
  static void store_first(float* to, Vector value, int64_t count) {
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1 << count) - 1), value);
  }

  struct Two {
    Vector first, second;
  };
  // Two vectors of floats to their even and odd elements, and back.
  static Two split(const float* from) {
    const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    const Vector low = load(from), high = load(from + lanes);
    return {_mm512_permutex2var_ps(low, even, high), _mm512_permutex2var_ps(low, odd, high)};
  }
  static void merge(float* to, Two value) {
    const __m512i low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i high = _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8);
    store(to, _mm512_permutex2var_ps(value.first, low, value.second));
    store(to + lanes, _mm512_permutex2var_ps(value.first, high, value.second));
  }
  // Two vectors of elements in the order that costs least: one after the other, or the even and the odd ones.
  static Two load_two(const float* from) { return {load(from), load(from + lanes)}; }
  static Two load_two(const Half* from) { return {load(from), load(from + lanes)}; }
  static Two load_two(const BFloat16* from) {
    const __m512i both = _mm512_loadu_si512(from);
    return {_mm512_castsi512_ps(_mm512_slli_epi32(both, 16)),
            _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(-65536)))};
  }

  static Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
  static Vector sub(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
  static Vector mul(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
  static Vector div(Vector a, Vector b) { return _mm512_div_ps(a, b); }
  static Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
  static Vector sqrt(Vector a) { return _mm512_sqrt_ps(a); }
  static Vector max(Vector a, Vector b) { return _mm512_max_ps(a, b); }  // b where either is NaN
  static Vector select_greater(Vector a, Vector b, Vector yes, Vector no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), no, yes);
  }

  // sum += the 16 floats that lie `offset` bytes, and the bits `mask` of `word` turned right by `turn`, beyond `table`.
  // In assembly because GCC 12, given intrinsics, computes the offsets of many entries ahead and spills them. Its twin
  // is add_entries of kernels/cpu/subset_sums.h, which GCC's sanitizers see and machines without AVX-512 test.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__AVX512F__)
  template <int turn, int mask, int offset>
  [[gnu::always_inline]] static void add_entry(const float* table, uint64_t word, Vector (&sum)[1]) {
    uint64_t at;
    asm("rorx %[turn], %[word], %[at]\n\t"
        "and %[mask], %k[at]\n\t"
        "vaddps %c[offset](%[table],%[at]), %[sum], %[sum]"
        : [at] "=&r"(at), [sum] "+v"(sum[0])
        : [table] "r"(table), [word] "r"(word), [turn] "i"(turn), [mask] "i"(mask), [offset] "i"(offset),
          "m"(*reinterpret_cast<const char(*)[kTableBytes]>(table))
        : "cc");
  }
#endif

  // 2^n for integral n in [-126, 127]: adding 2^23 + 127 leaves n + 127 in the low bits.
  static Vector power_of_two(Vector n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(add(n, set(0x1p23f + 127))), 23));
  }
  // Bit i: !(a[i] <= 0).
  static uint32_t active(Vector a) { return _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NLE_UQ); }
  // In the order of Avx2::sum, after adding the halves.
  static float sum(Vector a) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  // Rows to columns: pairs of rows interleave in 32 and 64 bits, then quarters of registers in two rounds.
  static void transpose(Vector (&block)[lanes]) {
    Vector pairs[lanes], quads[lanes];
    for (int i = 0; i < lanes; i += 2) {
      pairs[i] = _mm512_unpacklo_ps(block[i], block[i + 1]);
      pairs[i + 1] = _mm512_unpackhi_ps(block[i], block[i + 1]);
    }
    for (int i = 0; i < lanes; i += 4) {
      for (int j = 0; j < 2; ++j) {
        quads[i + 2 * j] = _mm512_shuffle_ps(pairs[i + j], pairs[i + j + 2], _MM_SHUFFLE(1, 0, 1, 0));
        quads[i + 2 * j + 1] = _mm512_shuffle_ps(pairs[i + j], pairs[i + j + 2], _MM_SHUFFLE(3, 2, 3, 2));
      }
    }
    // quads[4 q + c] holds, in its quarter p, column 4 p + c of rows 4 q .. 4 q + 3.
    for (int c = 0; c < 4; ++c) {
      const Vector low01 = _mm512_shuffle_f32x4(quads[c], quads[4 + c], _MM_SHUFFLE(1, 0, 1, 0));
      const Vector high01 = _mm512_shuffle_f32x4(quads[c], quads[4 + c], _MM_SHUFFLE(3, 2, 3, 2));
      const Vector low23 = _mm512_shuffle_f32x4(quads[8 + c], quads[12 + c], _MM_SHUFFLE(1, 0, 1, 0));
      const Vector high23 = _mm512_shuffle_f32x4(quads[8 + c], quads[12 + c], _MM_SHUFFLE(3, 2, 3, 2));
      block[c] = _mm512_shuffle_f32x4(low01, low23, _MM_SHUFFLE(2, 0, 2, 0));
      block[4 + c] = _mm512_shuffle_f32x4(low01, low23, _MM_SHUFFLE(3, 1, 3, 1));
      block[8 + c] = _mm512_shuffle_f32x4(high01, high23, _MM_SHUFFLE(2, 0, 2, 0));
      block[12 + c] = _mm512_shuffle_f32x4(high01, high23, _MM_SHUFFLE(3, 1, 3, 1));
    }
  }
};

}  // namespace
}  // namespace rewardhead::kernels
