// SPDX-License-Identifier: Apache-2.0
//
//   r = X w      dw = dr^T X      dX = dr w^T                               X [rows, input]  w [input]
//
// Two flops an element: bound by reading X, once for r and once for dw, or once for both where pairs are rows
// (2i, 2i + 1), by blocks of rows that the cache still holds when their slopes are known. Few rows are read twice,
// since the kernels one after another compute each slope once.
//
// r keeps two vector sums a row. dw is summed over chunks of rows whose number depends on the rows alone: a chunk
// streams whole rows, eight at a time, into sums in cache, and the chunks are added in ascending order. Both are the
// same for any threads, and r for any other rows. bfloat16 is taken as its even and odd elements, which widen with one
// instruction each; w is split likewise on the way, and dw merged at the end.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels/cpu/pair_loss.h"
#include "kernels/cpu/partial.h"
#include "kernels/workspace.h"

namespace rewardhead::kernels {
namespace {

constexpr int64_t kLinearRows = 64;       // of one task of r or dX
constexpr int64_t kLinearGroup = 8;       // rows added to dw's sums at once,
constexpr int64_t kLinearFarGroup = 4;    // and these where rows of `input` elements are multiples of 4 KB and collide
                                          // in L1 (the stride would tell better, but must not change a bit)
constexpr int64_t kLinearChunks = 16;     // at most, of dw
constexpr int64_t kLinearChunkRows = 16;  // at least: a chunk writes and reads as much as two rows
constexpr int64_t kLinearColumns = 1024;  // of one task that adds chunks
constexpr int64_t kLinearFewRows = 16;    // up to which a step makes two passes over X
static_assert(kLinearFewRows >= kLinearChunkRows);  // so that one pass has several chunks, whose sums are added
// What a step reads for r and again for dw: bytes that fit L1, with quarters on pages of their own, but no fewer rows
// than kLinearGroup, and no more than the slopes that it keeps on the stack.
constexpr int64_t kLinearBlockBytes = 28 << 10;
constexpr int64_t kLinearBlockRows = 128;

constexpr int64_t linear_chunk_rows(int64_t rows) {
  const int64_t even = (rows + kLinearChunks - 1) / kLinearChunks;
  return std::max(kLinearChunkRows, (even + kLinearGroup - 1) / kLinearGroup * kLinearGroup);
}
constexpr int64_t linear_chunks(int64_t rows) { return (rows + linear_chunk_rows(rows) - 1) / linear_chunk_rows(rows); }

struct LinearScratch {
  float* sums;     // [chunks, stride]: dw of each chunk, in the order of V::load_two
  int64_t stride;  // input, up to whole cache lines and vectors
  size_t bytes;

  static LinearScratch carve(void* workspace, int64_t rows, int64_t input) {
    Carver carver(workspace);
    LinearScratch scratch;
    scratch.stride = (input + 31) / 32 * 32;
    // Fewer rows may make more chunks, never more than these.
    scratch.sums =
        carver.take<float>(std::min(kLinearChunks, (rows + kLinearChunkRows - 1) / kLinearChunkRows) * scratch.stride);
    scratch.bytes = carver.bytes();
    return scratch;
  }
};

// Floats in the order that V::load_two gives to elements.
template <class V, class Element>
typename V::Two load_matching(const float* from) {
  if constexpr (std::is_same_v<Element, BFloat16>) return V::split(from);
  return V::load_two(from);
}
template <class V, class Element>
void store_matching(float* to, typename V::Two value) {
  if constexpr (std::is_same_v<Element, BFloat16>) return V::merge(to, value);
  V::store(to, value.first);
  V::store(to + V::lanes, value.second);
}

// body(column, elements left) for two vectors at a time.
template <class V, class Body>
[[gnu::always_inline]] inline void for_columns(int64_t input, const Body& body) {
  constexpr int64_t step = 2 * V::lanes;
  int64_t k = 0;
  for (; k + step <= input; k += step) body(k, step);
  if (k < input) body(k, input - k);
}

template <class V, class Element>
[[gnu::always_inline]] inline typename V::Two load_two_partial(const Element* from, int64_t count) {
  return from_partial<V>(from, count, [](const Element* elements) { return V::load_two(elements); });
}

// rewards[i * distance] of the rows x + i * distance * stride.
template <class V, int rows, class Element>
void linear_rewards(const Element* x, int64_t stride, int64_t distance, const float* w, int64_t input,
                    float* rewards) {
  using Two = typename V::Two;
  Two sums[rows];
  for (Two& sum : sums) sum = {V::set(0.0f), V::set(0.0f)};
  for_columns<V>(
      input, [&](int64_t k, int64_t count) __attribute__((always_inline)) {
        const Two weights = from_partial<V>(w + k, count, load_matching<V, Element>);
        for (int r = 0; r < rows; ++r) {
          const Two features = load_two_partial<V>(x + r * distance * stride + k, count);
          sums[r].first = V::fma(features.first, weights.first, sums[r].first);
          sums[r].second = V::fma(features.second, weights.second, sums[r].second);
        }
      });
  for (int r = 0; r < rows; ++r) rewards[r * distance] = V::sum(V::add(sums[r].first, sums[r].second));
}

// Four rows at once, a quarter of all rows apart: the prefetcher works page by page, so that four rows of 1.5 KB that
// follow each other come from memory at 0.6 of the speed of four that lie pages apart.
template <class V, class Element>
void linear_rewards(const Element* x, int64_t stride, const float* w, int64_t input, int64_t rows, float* rewards) {
  const int64_t distance = rows / 4;
  for (int64_t row = 0; row < distance; ++row) {
    linear_rewards<V, 4>(x + row * stride, stride, distance, w, input, rewards + row);
  }
  int64_t row = 4 * distance;
  if (rows % 4 >= 2) {
    linear_rewards<V, 2>(x + row * stride, stride, 1, w, input, rewards + row);
    row += 2;
  }
  if (rows % 2) linear_rewards<V, 1>(x + row * stride, stride, 1, w, input, rewards + row);
}

// Whether V::load_two leaves elements in their order, so that `count` of them are the first `count`.
template <class Element>
constexpr bool kInOrder = !std::is_same_v<Element, BFloat16>;

// sums = dr^T X, added to what is there unless `first`: `input` of them, or whole vectors where they are not in order.
// Not inlined: GCC 12 would spill the rows' addresses to whatever is around it, and take twice as long.
template <class V, int rows, bool first, class Element>
[[gnu::noinline]] void linear_gradient(const Element* x, int64_t stride, const float* dr, int64_t input, float* sums) {
  using Two = typename V::Two;
  typename V::Vector slopes[rows];
  for (int r = 0; r < rows; ++r) slopes[r] = V::set(dr[r]);
  for_columns<V>(
      input, [&](int64_t k, int64_t count) __attribute__((always_inline)) {
        Two sum = {V::set(0.0f), V::set(0.0f)};
        for (int r = 0; r < rows; ++r) {
          const Two features = load_two_partial<V>(x + r * stride + k, count);
          sum.first = V::fma(slopes[r], features.first, sum.first);
          sum.second = V::fma(slopes[r], features.second, sum.second);
        }
        const int64_t summed = kInOrder<Element> ? count : 2 * V::lanes;
        if (!first) {
          const Two before = load_two_partial<V>(static_cast<const float*>(sums + k), summed);
          sum = {V::add(before.first, sum.first), V::add(before.second, sum.second)};
        }
        to_partial<V>(sums + k, summed, [&](float* to) {
          V::store(to, sum.first);
          V::store(to + V::lanes, sum.second);
        });
      });
}

template <class V, class Element>
void linear_gradient(const Element* x, int64_t stride, const float* dr, int64_t input, int64_t rows, bool first,
                     float* sums) {
  int64_t row = 0;
  const auto add = [&]<int count>(std::integral_constant<int, count>) {
    for (; row + count <= rows; row += count) {
      if (first && row == 0) {
        linear_gradient<V, count, true>(x, stride, dr, input, sums);
      } else {
        linear_gradient<V, count, false>(x + row * stride, stride, dr + row, input, sums);
      }
    }
  };
  if (input * static_cast<int64_t>(sizeof(Element)) % 4096) add(std::integral_constant<int, kLinearGroup>());
  add(std::integral_constant<int, kLinearFarGroup>());
  add(std::integral_constant<int, 2>());
  add(std::integral_constant<int, 1>());
}

// A single chunk, if in order, is summed where dw belongs.
template <class Element>
bool sums_in_place(int64_t chunks) {
  return chunks == 1 && kInOrder<Element>;
}
template <class Element>
float* chunk_sums(const LinearScratch& scratch, int64_t chunks, int64_t chunk, float* gradient) {
  return sums_in_place<Element>(chunks) ? gradient : scratch.sums + chunk * scratch.stride;
}

// dw from the sums of all chunks.
template <class V, class Element>
void add_linear_chunks(const LinearScratch& scratch, int64_t chunks, int64_t input, float* gradient,
                       const Executor& executor) {
  if (sums_in_place<Element>(chunks)) return;
  executor.for_each((input + kLinearColumns - 1) / kLinearColumns, [&](int64_t task, int) {
    const int64_t begin = task * kLinearColumns;
    for_columns<V>(std::min(kLinearColumns, input - begin), [&](int64_t k, int64_t count) {
      const float* sums = scratch.sums + begin + k;
      const int64_t summed = kInOrder<Element> ? count : 2 * V::lanes;
      typename V::Two sum = load_two_partial<V>(sums, summed);
      for (int64_t chunk = 1; chunk < chunks; ++chunk) {
        const typename V::Two next = load_two_partial<V>(sums + chunk * scratch.stride, summed);
        sum = {V::add(sum.first, next.first), V::add(sum.second, next.second)};
      }
      to_partial<V>(gradient + begin + k, count, [&](float* to) { store_matching<V, Element>(to, sum); });
    });
  });
}

template <class V>
void linear_forward(const ForwardArguments& a, const Executor& executor) {
  with_element(a.x.dtype, [&](auto* element) {
    const auto* x = static_cast<decltype(element)>(a.x.data);
    executor.for_each((a.x.rows + kLinearRows - 1) / kLinearRows, [&](int64_t task, int) {
      const int64_t row = task * kLinearRows;
      linear_rewards<V>(x + row * a.x.stride, a.x.stride, a.head.w1, a.x.columns, std::min(kLinearRows, a.x.rows - row),
                        a.rewards + row);
    });
  });
}

template <class V>
void linear_input_gradient(const BackwardArguments& a, const Executor& executor) {
  executor.for_each((a.x.rows + kLinearRows - 1) / kLinearRows, [&](int64_t task, int) {
    const int64_t end = std::min(a.x.rows, (task + 1) * kLinearRows);
    for (int64_t row = task * kLinearRows; row < end; ++row) {
      const typename V::Vector dr = V::set(a.reward_gradient[row]);
      float* gradient = a.input_gradient + row * a.input_gradient_stride;
      int64_t k = 0;
      for (; k + V::lanes <= a.x.columns; k += V::lanes) V::store(gradient + k, V::mul(dr, V::load(a.head.w1 + k)));
      const int64_t count = a.x.columns - k;
      store_partial<V>(gradient + k, V::mul(dr, load_partial<V>(a.head.w1 + k, count)), count);
    }
  });
}

template <class V>
void linear_backward(const BackwardArguments& a, const Executor& executor, void* workspace) {
  const LinearScratch scratch = LinearScratch::carve(workspace, a.x.rows, a.x.columns);
  const int64_t chunks = linear_chunks(a.x.rows), chunk_rows = linear_chunk_rows(a.x.rows);
  with_element(a.x.dtype, [&](auto* element) {
    using Element = std::remove_cvref_t<decltype(*element)>;
    const auto* x = static_cast<const Element*>(a.x.data);
    executor.for_each(chunks, [&](int64_t chunk, int) {
      const int64_t row = chunk * chunk_rows;
      linear_gradient<V>(x + row * a.x.stride, a.x.stride, a.reward_gradient + row, a.x.columns,
                         std::min(chunk_rows, a.x.rows - row), true,
                         chunk_sums<Element>(scratch, chunks, chunk, a.gradient.w1));
    });
    add_linear_chunks<V, Element>(scratch, chunks, a.x.columns, a.gradient.w1, executor);
  });
  if (a.input_gradient) linear_input_gradient<V>(a, executor);
}

struct LinearStepScratch {
  static size_t bytes(const Shape& shape) {
    return std::max(LinearScratch::carve(nullptr, shape.rows, shape.input).bytes,
                    PairLossScratch::carve(nullptr, shape.rows, shape.pairs).bytes);
  }
};

// The slopes of a block's pairs are computed twice: in the pass over X to go on with, and by pair_loss, whose order of
// summing the loss then stays its own business. That is a few cycles a pair.
template <class V>
void linear_step(const ForwardArguments& forward, const PairLossArguments& pairs, const BackwardArguments& backward,
                 const Executor& executor, void* workspace) {
  const Matrix& x = forward.x;
  if (x.rows <= kLinearFewRows) {  // slopes of blocks would cost more than reading so few rows twice
    linear_forward<V>(forward, executor);
    pair_loss<V>(pairs, executor, workspace);
    return linear_backward<V>(backward, executor, workspace);
  }
  const LinearScratch scratch = LinearScratch::carve(workspace, x.rows, x.columns);
  const int64_t chunks = linear_chunks(x.rows), chunk_rows = linear_chunk_rows(x.rows);
  with_element(x.dtype, [&](auto* element) {
    using Element = std::remove_cvref_t<decltype(*element)>;
    const int64_t fitting = kLinearBlockBytes / (x.columns * static_cast<int64_t>(sizeof(Element)));
    const int64_t block_rows = std::clamp(fitting / kLinearGroup * kLinearGroup, kLinearGroup, kLinearBlockRows);
    executor.for_each(chunks, [&](int64_t chunk, int) {
      const int64_t begin = chunk * chunk_rows, end = std::min(x.rows, begin + chunk_rows);
      float* sums = scratch.sums + chunk * scratch.stride;
      for (int64_t row = begin; row < end; row += block_rows) {
        const auto* features = static_cast<const Element*>(x.data) + row * x.stride;
        const int64_t rows = std::min(block_rows, end - row);
        linear_rewards<V>(features, x.stride, forward.head.w1, x.columns, rows, forward.rewards + row);
        alignas(kAlignment) float slopes[kLinearBlockRows];
        adjacent_slopes<V>(pairs, row, rows, slopes);
        linear_gradient<V>(features, x.stride, slopes, x.columns, rows, row == begin, sums);
      }
    });
    add_linear_chunks<V, Element>(scratch, chunks, x.columns, backward.gradient.w1, executor);
  });
  pair_loss<V>(pairs, executor, workspace);
  if (backward.input_gradient) linear_input_gradient<V>(backward, executor);
}

}  // namespace
}  // namespace rewardhead::kernels
