// SPDX-License-Identifier: Apache-2.0
//
// planes.h: matrices and vectors to 16-bit planes. A warp a row, a lane eight columns at a time; rows that are aligned
// are read by 16 bytes, others by elements, and all are written by 16 bytes.
//
// Bound (prediction): memory, 4 bytes read and 2 a plane written for each element of an fp32 matrix.
#include "kernels/cuda/planes.h"

#include "kernels/cuda/elements.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/scalar.h"

namespace rewardhead::kernels::cuda {
namespace {

// ---- kernels

constexpr int kThreads = 256, kWarps = kThreads / 32;

struct MatrixParameters {
  SplitMatrix s;
  bool aligned;
  int64_t rows;  // of a plane
};

template <class Element, ptx::Input kInput>
RH_KERNEL(kThreads, 4) split_rows(RH_GRID_CONST const MatrixParameters p) {
  const int64_t row = int64_t{ptx::block_index()} * kWarps + ptx::thread_index() / 32;
  if (row >= p.rows) return;
  const int64_t member = row / p.s.padded_rows, own = row % p.s.padded_rows;
  const int64_t columns = own < p.s.member_rows ? p.s.from.columns : 0;
  const Element* const from = static_cast<const Element*>(p.s.from.data) + (member * p.s.member_rows + own) * p.s.from.stride;
  for (int64_t k = ptx::thread_index() % 32 * 8; k < p.s.stride; k += 256) {
    Eight x = load_eight(from + k, columns - k, p.aligned);
    uint16_t* to = p.s.to + row * p.s.stride + k;
    for (int plane = 0; plane < p.s.planes; ++plane, to += p.rows * p.s.stride) {
      ptx::Word4 words;
      words.x = take_plane<kInput>(x.v[0], x.v[1]);
      words.y = take_plane<kInput>(x.v[2], x.v[3]);
      words.z = take_plane<kInput>(x.v[4], x.v[5]);
      words.w = take_plane<kInput>(x.v[6], x.v[7]);
      ptx::stg128(to, words);
    }
  }
}

// One block a member: the exponent that brings the largest finite magnitude to 2^14. A maximum has no order.
RH_KERNEL(1024, 1) vector_unscale(RH_GRID_CONST const SplitVector p) {
  const float* const from = p.from + ptx::block_index() * p.count;
  float largest = 0;
  for (int64_t i = ptx::thread_index(); p.half && i < p.count; i += 1024) {
    const float magnitude = fabsf(ptx::ldg32f(from + i));
    if (magnitude <= 0x1.fffffep127f && magnitude > largest) largest = magnitude;
  }
  uint32_t bits = float_bits(largest);
  RH_UNROLL for (int distance = 16; distance > 0; distance /= 2) {
    const uint32_t other = ptx::shfl_xor(bits, distance);
    bits = other > bits ? other : bits;  // magnitudes have the order of their bits
  }
  const uint32_t shared = ptx::smem_base(), thread = ptx::thread_index();
  if (thread % 32 == 0) ptx::sts32(shared + thread / 32 * 4, bits);
  ptx::syncthreads();
  if (thread != 0) return;
  for (uint32_t warp = 1; warp < 32; ++warp) {
    const uint32_t other = ptx::lds32(shared + warp * 4);
    bits = other > bits ? other : bits;
  }
  // 2^(exponent - 14), whose inverse is exact as well: the exponent is kept within what both can hold.
  const uint32_t exponent = bits >> 23;
  const uint32_t unscale = exponent < 30 ? 16 : exponent > 240 ? 226 : exponent - 14;
  ptx::stg32f(p.unscale + ptx::block_index(), bits == 0 ? 1.0f : bits_float(unscale << 23));
}

template <ptx::Input kInput>
RH_KERNEL(kThreads, 4) split_values(RH_GRID_CONST const SplitVector p) {
  const int64_t pairs = p.padded / 2;
  const int64_t index = int64_t{ptx::block_index()} * kThreads + ptx::thread_index();
  if (index >= p.members * pairs) return;
  const int64_t member = index / pairs, k = index % pairs * 2;
  const float scale = 1.0f / ptx::ldg32f(p.unscale + member);
  const float* const from = p.from + member * p.count;
  float a = k < p.count ? scale * ptx::ldg32f(from + k) : 0.0f;
  float b = k + 1 < p.count ? scale * ptx::ldg32f(from + k + 1) : 0.0f;
  uint16_t* to = p.to + member * p.planes * p.padded + k;
  for (int plane = 0; plane < p.planes; ++plane, to += p.padded) ptx::stg32(to, take_plane<kInput>(a, b));
}

}  // namespace

// ---- launchers

cudaError_t split_matrix(const SplitMatrix& split, cudaStream_t stream) {
  MatrixParameters p = {split, false, split.from.rows / split.member_rows * split.padded_rows};
  return with_element(split.from.dtype, [&](auto* element) {
    using Element = std::remove_cvref_t<decltype(*element)>;
    p.aligned = has_aligned_rows<Element>(split.from.data, split.from.stride);
    const LaunchShape shape = {ceil_divide(p.rows, kWarps), kThreads};
    return with_input(split.half, [&](auto input) { return launch(split_rows<Element, input>, shape, p, stream); });
  });
}

cudaError_t split_vector(const SplitVector& split, cudaStream_t stream) {
  if (const cudaError_t error = launch(vector_unscale, {split.members, 1024, 32 * 4}, split, stream)) return error;
  const LaunchShape shape = {ceil_divide(split.members * split.padded / 2, kThreads), kThreads};
  return with_input(split.half, [&](auto input) { return launch(split_values<input>, shape, split, stream); });
}

}  // namespace rewardhead::kernels::cuda
