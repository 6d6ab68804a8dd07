// SPDX-License-Identifier: Apache-2.0
//
// Eight lanes: AVX2 with FMA, F16C and BMI2.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/storage.h"

namespace rewardhead::kernels {
namespace {

struct Avx2 {
  using Vector = __m256;
  static constexpr const char* name = "avx2";
  static constexpr int lanes = 8;
  // Forward tile: 6 hidden x 2 vectors of rows = 12 accumulators, with 2 of X and 1 of W1: 15 of 16 registers, and
  // enough independent chains for two FMA pipes of latency 4 (8 needed).
  static constexpr int tile_hidden = 6;
  static constexpr int tile_vectors = 2;

  static Vector set(float value) { return _mm256_set1_ps(value); }
  static Vector load(const float* from) { return _mm256_loadu_ps(from); }
  static Vector load(const Half* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static Vector load(const BFloat16* from) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
  static void store(float* to, Vector value) { _mm256_storeu_ps(to, value); }
  // The first `count` < lanes elements; nothing beyond is touched, and those lanes are zero.
  static Vector load_first(const float* from, int64_t count) { return _mm256_maskload_ps(from, first_lanes(count)); }
  static void store_first(float* to, Vector value, int64_t count) {
    _mm256_maskstore_ps(to, first_lanes(count), value);
  }
  static __m256i first_lanes(int64_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }

  struct Two {
    Vector first, second;
  };
  // Two vectors of floats to their even and odd elements, and back.
  static Two split(const float* from) {
    const Vector low = load(from), high = load(from + lanes);
    const __m256d even = _mm256_castps_pd(_mm256_shuffle_ps(low, high, _MM_SHUFFLE(2, 0, 2, 0)));
    const __m256d odd = _mm256_castps_pd(_mm256_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 3, 1)));
    return {_mm256_castpd_ps(_mm256_permute4x64_pd(even, _MM_SHUFFLE(3, 1, 2, 0))),
            _mm256_castpd_ps(_mm256_permute4x64_pd(odd, _MM_SHUFFLE(3, 1, 2, 0)))};
  }
  static void merge(float* to, Two value) {
    const Vector low = _mm256_unpacklo_ps(value.first, value.second);
    const Vector high = _mm256_unpackhi_ps(value.first, value.second);
    store(to, _mm256_permute2f128_ps(low, high, 0x20));
    store(to + lanes, _mm256_permute2f128_ps(low, high, 0x31));
  }
  // Two vectors of elements in the order that costs least: one after the other, or the even and the odd ones.
  static Two load_two(const float* from) { return {load(from), load(from + lanes)}; }
  static Two load_two(const Half* from) { return {load(from), load(from + lanes)}; }
  static Two load_two(const BFloat16* from) {
    const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(both, 16)),
            _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(-65536)))};
  }

  static Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
  static Vector sub(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
  static Vector mul(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
  static Vector div(Vector a, Vector b) { return _mm256_div_ps(a, b); }
  static Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
  static Vector sqrt(Vector a) { return _mm256_sqrt_ps(a); }
  static Vector max(Vector a, Vector b) { return _mm256_max_ps(a, b); }  // b where either is NaN
  static Vector select_greater(Vector a, Vector b, Vector yes, Vector no) {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_GT_OQ));
  }

  // sum += the 16 floats that lie `offset` bytes, and the bits `mask` of `word` turned right by `turn`, beyond `table`.
  // In assembly because GCC 12, given intrinsics, computes the offsets of many entries ahead and spills them. Its twin
  // is add_entries of kernels/cpu/subset_sums.h, which GCC's sanitizers see.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  template <int turn, int mask, int offset>
  [[gnu::always_inline]] static void add_entry(const float* table, uint64_t word, Vector (&sum)[2]) {
    uint64_t at;
    asm("rorx %[turn], %[word], %[at]\n\t"
        "and %[mask], %k[at]\n\t"
        "vaddps %c[offset](%[table],%[at]), %[low], %[low]\n\t"
        "vaddps %c[offset]+32(%[table],%[at]), %[high], %[high]"
        : [at] "=&r"(at), [low] "+x"(sum[0]), [high] "+x"(sum[1])
        : [table] "r"(table), [word] "r"(word), [turn] "i"(turn), [mask] "i"(mask), [offset] "i"(offset),
          "m"(*reinterpret_cast<const char(*)[kTableBytes]>(table))
        : "cc");
  }
#endif

  // 2^n for integral n in [-126, 127]: adding 2^23 + 127 leaves n + 127 in the low bits.
  static Vector power_of_two(Vector n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(add(n, set(0x1p23f + 127))), 23));
  }
  // Bit i: !(a[i] <= 0).
  static uint32_t active(Vector a) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NLE_UQ)));
  }
  static float sum(Vector a) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  // Rows to columns: pairs of rows interleave in 32, 64 and 128 bits.
  static void transpose(Vector (&block)[lanes]) {
    Vector pairs[lanes], quads[lanes];
    for (int i = 0; i < lanes; i += 2) {
      pairs[i] = _mm256_unpacklo_ps(block[i], block[i + 1]);
      pairs[i + 1] = _mm256_unpackhi_ps(block[i], block[i + 1]);
    }
    for (int i = 0; i < lanes; i += 4) {
      for (int j = 0; j < 2; ++j) {
        quads[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], _MM_SHUFFLE(1, 0, 1, 0));
        quads[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], _MM_SHUFFLE(3, 2, 3, 2));
      }
    }
    for (int i = 0; i < 4; ++i) {
      block[i] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
      block[i + 4] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
    }
  }
};

}  // namespace
}  // namespace rewardhead::kernels
