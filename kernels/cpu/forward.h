// SPDX-License-Identifier: Apache-2.0
//
//   z = X W1^T + b1      r = w2 . relu(z) + b2      mask = !(z <= 0)        X [rows, input]  W1 [hidden, input]
//
// Rows lie in the vector lanes. A panel of V::tile_vectors vectors of rows (the last one up to one more) is transposed
// once into panel[k][row]; a tile is V::tile_hidden hidden units by one panel, its accumulators start at b1, and its
// epilogue, still in registers, yields the mask bits and adds w2 relu(z) to the rows' rewards without a horizontal sum.
// W1 is read where it lies, by broadcast; z is not stored, nor is relu(z) but for few rows (keeps_activations).
//
// A plan for at most kFewRows rows (scoring one response, best-of-N, a micro-batch) would leave lanes empty, and W1 is
// what takes its time. There columns lie in the lanes; W1 is read where it lies, once for four rows, and so is X, but
// for 16-bit elements, which are widened first. A sum over the lanes is all that a tile costs beside its multiply-adds.
//
// Every z is b1 and the sum of chains of at most kChain multiply-adds (V::fma), ascending in k; few rows have V::lanes
// chains at a time, chain i of the columns i, i + V::lanes, and so on. Every reward is the sum over hidden units in
// ascending order within chunks of at most kHiddenChunk, then over chunks. So neither threads, nor tiles, nor other rows change
// a bit, as long as the plan is one for few rows or for many in both cases.
//
// Work is shared by blocks of 64 rows (one mask word); where there are fewer blocks than workers a block is packed by all
// and then split by chunks.
//
// Bound by FMA throughput: per k a tile does tile_hidden * tile_vectors of them on tile_hidden + tile_vectors loads.
// The panel (input 384: 24 KB at AVX2, 96 KB at AVX-512) comes from L1 or L2; blocking over k was tried
// (kernels/README.md).
#pragma once

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/cpu/partial.h"
#include "kernels/workspace.h"

namespace rewardhead::kernels {
namespace {

// A multiple of every tile_hidden and every number of lanes; small, so that one block of rows can be shared by threads.
constexpr int64_t kHiddenChunk = 48;
// The most parameters that every panel meets anew. Where there are more, a chunk of them serves all panels of a block in
// turn, so that they come from memory once a block: at 3584 x 3584 5 % faster on one thread and 9 % on two. Below, one
// panel at a time stays in L1 or L2.
#ifdef REWARDHEAD_FORCE_NEAR_PARAMETERS  // only in tests
constexpr int64_t kNearParameters = REWARDHEAD_FORCE_NEAR_PARAMETERS;
#else
constexpr int64_t kNearParameters = int64_t{1} << 20;
#endif
// Longest chain of roundings in z. At input 4096 one chain has 3 times the error of PyTorch's fp32, these 0.3 times.
constexpr int64_t kChain = 384;

// panel[k][row] of the columns from `first` to `last` for the first `vectors` vectors of rows; rows from `rows` on are
// zero.
template <class V, class Element>
void pack_panel(const Element* x, int64_t stride, int64_t rows, int64_t first, int64_t last, int vectors,
                float* panel) {
  using Vector = typename V::Vector;
  const int64_t width = static_cast<int64_t>(vectors) * V::lanes;
  for (int v = 0; v < vectors; ++v) {
    for (int64_t k = first; k < last; k += V::lanes) {
      const int64_t columns = std::min<int64_t>(V::lanes, last - k);
      Vector block[V::lanes];
      for (int i = 0; i < V::lanes; ++i) {
        const int64_t row = v * V::lanes + i;
        block[i] = row < rows ? load_partial<V>(x + row * stride + k, columns) : V::set(0.0f);
      }
      V::transpose(block);
      for (int64_t i = 0; i < columns; ++i) V::store(panel + (k + i) * width + v * V::lanes, block[i]);
    }
  }
}

// Where the activations of a tile go: values[unit * stride + row].
struct Kept {
  float* values;  // null: nowhere
  int64_t stride, rows;
};

// From z [units][vectors of rows]: adds w2 relu(z) to sums [vectors * lanes], writes the mask bits [units] and keeps
// relu(z).
template <class V, int units, int vectors>
void finish_tile(const typename V::Vector (&z)[units][vectors], const float* w2, float* sums, uint64_t* bits,
                 const Kept& kept) {
  using Vector = typename V::Vector;
  const Vector zero = V::set(0.0f);
  for (int v = 0; v < vectors; ++v) {
    Vector sum = V::load(sums + v * V::lanes);
    for (int u = 0; u < units; ++u) sum = V::fma(V::set(w2[u]), V::max(zero, z[u][v]), sum);
    V::store(sums + v * V::lanes, sum);
  }
  for (int u = 0; kept.values && u < units; ++u) {
    for (int v = 0; v < vectors; ++v) {
      store_partial<V>(kept.values + u * kept.stride + v * V::lanes, V::max(zero, z[u][v]), kept.rows - v * V::lanes);
    }
  }
  for (int u = 0; u < units; ++u) {
    bits[u] = 0;
    for (int v = 0; v < vectors; ++v) bits[u] |= static_cast<uint64_t>(V::active(z[u][v])) << (v * V::lanes);
  }
}

// `units` hidden units from w1, b1, w2 on; adds to sums [vectors * lanes] and writes the mask bits [units].
template <class V, int units, int vectors>
void forward_tile(const float* w1, const float* b1, const float* w2, const float* panel, int64_t input, float* sums,
                  uint64_t* bits, const Kept& kept) {
  using Vector = typename V::Vector;
  Vector z[units][vectors];
  for (int u = 0; u < units; ++u) {
    for (int v = 0; v < vectors; ++v) z[u][v] = V::set(b1[u]);
  }
  for (int64_t first = 0; first < input; first += kChain) {
    const int64_t end = std::min(input, first + kChain);
    Vector part[units][vectors];
    for (int u = 0; u < units; ++u) {
      for (int v = 0; v < vectors; ++v) part[u][v] = V::set(0.0f);
    }
    for (int64_t k = first; k < end; ++k) {
      Vector x[vectors];
      for (int v = 0; v < vectors; ++v) x[v] = V::load(panel + (k * vectors + v) * V::lanes);
      for (int u = 0; u < units; ++u) {
        const Vector w = V::set(w1[u * input + k]);
        for (int v = 0; v < vectors; ++v) part[u][v] = V::fma(w, x[v], part[u][v]);
      }
    }
    for (int u = 0; u < units; ++u) {
      for (int v = 0; v < vectors; ++v) z[u][v] = V::add(z[u][v], part[u][v]);
    }
  }
  finish_tile<V, units, vectors>(z, w2, sums, bits, kept);
}

using ForwardTile = void (*)(const float*, const float*, const float*, const float*, int64_t, float*, uint64_t*,
                             const Kept&);

// The last panel takes one vector more, with fewer hidden units a tile, where that leaves no rows for another panel.
template <class V>
constexpr int kMostVectors = V::tile_vectors + ((V::tile_vectors + 1) * V::lanes <= kMaskRows ? 1 : 0);
template <class V>
constexpr int forward_units(int vectors) {
  return vectors <= V::tile_vectors ? V::tile_hidden : V::tile_hidden * V::tile_vectors / vectors;
}

// row[units - 1]
template <class V, int vectors, int... units>
constexpr std::array<ForwardTile, V::tile_hidden> forward_tile_row(std::integer_sequence<int, units...>) {
  return {forward_tile<V, units + 1, vectors>...};
}

// tiles[vectors - 1][units - 1]
template <class V, int... vectors>
constexpr auto forward_tiles(std::integer_sequence<int, vectors...>) {
  return std::array{
      forward_tile_row<V, vectors + 1>(std::make_integer_sequence<int, forward_units<V>(vectors + 1)>{})...};
}

// The most rows of a plan for which columns go into the lanes. On AVX2, 8 rows take the same time either way, 1 row
// takes 0.4 of the other's, 16 take 1.3. As many rows as lanes is where the other way has full vectors, hence the same
// limit for AVX-512 and portable, where it was not measured.
#ifdef REWARDHEAD_FORCE_FEW_ROWS  // only in tests
template <class V>
constexpr int64_t kFewRows = REWARDHEAD_FORCE_FEW_ROWS;
#else
template <class V>
constexpr int64_t kFewRows = V::lanes;
#endif
constexpr int kFewRowsTile = 4;  // rows of a tile at most

// Hidden units of a tile: AVX2 has 8 chains at least, and AVX-512 16, so that none waits for its own additions;
// portable vectors have 3 or 4, and registers left for the products, which are not fused there.
template <class V>
constexpr int few_rows_units(int64_t rows) {
  return rows == 1 ? V::lanes : rows == 2 ? V::lanes / 2 : V::lanes * 3 / 8;
}

// `units` hidden units from w1, b1, w2 on by `rows` rows of x; like forward_tile otherwise, but for the order of sums.
template <class V, int rows, int units>
void forward_few_rows(const float* w1, const float* b1, const float* w2, const float* x, int64_t stride, int64_t input,
                      float* sums, uint64_t* bits, const Kept& kept) {
  using Vector = typename V::Vector;
  constexpr int squares = (units * rows + V::lanes - 1) / V::lanes;
  alignas(kAlignment) float values[(squares + 1) * V::lanes] = {};  // z [units, rows]
  for (int i = 0; i < units * rows; ++i) values[i] = b1[i / rows];
  Vector z[squares];
  for (int s = 0; s < squares; ++s) z[s] = V::load(values + s * V::lanes);
  for (int64_t first = 0; first < input; first += kChain * V::lanes) {
    const int64_t end = std::min(input, first + kChain * V::lanes);
    Vector chains[squares][V::lanes];
    for (int i = 0; i < squares * V::lanes; ++i) chains[i / V::lanes][i % V::lanes] = V::set(0.0f);
    const auto extend = [&](int64_t k, const auto& load) __attribute__((always_inline)) {
      Vector w[units];
      for (int u = 0; u < units; ++u) w[u] = load(w1 + u * input + k);
      for (int row = 0; row < rows; ++row) {
        const Vector value = load(x + row * stride + k);
        for (int u = 0; u < units; ++u) {
          Vector& chain = chains[(u * rows + row) / V::lanes][(u * rows + row) % V::lanes];
          chain = V::fma(w[u], value, chain);
        }
      }
    };
    int64_t k = first;
    for (; k + V::lanes <= end; k += V::lanes) extend(k, [](const float* from) { return V::load(from); });
    if (k < end) extend(k, [&](const float* from) { return load_partial<V>(from, end - k); });
    for (int s = 0; s < squares; ++s) {
      V::transpose(chains[s]);
      for (int i = 0; i < V::lanes; ++i) z[s] = V::add(z[s], chains[s][i]);
    }
  }
  for (int s = 0; s < squares; ++s) V::store(values + s * V::lanes, z[s]);
  Vector by_unit[units][1];
  for (int u = 0; u < units; ++u) by_unit[u][0] = V::load(values + u * rows);
  finish_tile<V, units, 1>(by_unit, w2, sums, bits, kept);
}

using FewRowsTile = void (*)(const float*, const float*, const float*, const float*, int64_t, int64_t, float*,
                             uint64_t*, const Kept&);

// row[units - 1]
template <class V, int rows, int... units>
constexpr std::array<FewRowsTile, V::lanes> few_rows_tile_row(std::integer_sequence<int, units...>) {
  return {forward_few_rows<V, rows, units + 1>...};
}

// tiles[rows - 1][units - 1]
template <class V, int... rows>
constexpr auto few_rows_tiles(std::integer_sequence<int, rows...>) {
  return std::array{few_rows_tile_row<V, rows + 1>(std::make_integer_sequence<int, few_rows_units<V>(rows + 1)>{})...};
}

// copy[row][k] in fp32, of the columns from `first` to `last`.
template <class V, class Element>
void widen_rows(const Element* x, int64_t stride, int64_t rows, int64_t input, int64_t first, int64_t last,
                float* copy) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t k = first; k < last; k += V::lanes) {
      store_partial<V>(copy + row * input + k, load_partial<V>(x + row * stride + k, last - k), last - k);
    }
  }
}

struct ForwardScratch {
  float* chunk_rewards;  // [members, chunks, padded rows]
  float* panels;         // [threads, input, kMaskRows]: of one block, one panel behind the other
  int64_t panels_stride;
  int64_t padded_rows;
  int64_t chunks;  // of one member
  size_t bytes;

  static ForwardScratch carve(void* workspace, const Shape& shape, int threads) {
    Carver carver(workspace);
    ForwardScratch scratch;
    scratch.padded_rows = mask_blocks(shape.rows) * kMaskRows;
    scratch.chunks = (shape.hidden + kHiddenChunk - 1) / kHiddenChunk;
    scratch.panels_stride = shape.input * kMaskRows;
    scratch.chunk_rewards = carver.take<float>(shape.members * scratch.chunks * scratch.padded_rows);
    scratch.panels = carver.take<float>(threads * scratch.panels_stride);
    scratch.bytes = carver.bytes();
    return scratch;
  }
};

// One block of 64 rows: its rows are cut into panels, and each panel meets the chunks of hidden units, which are counted
// through all members.
template <class V, class Element>
class ForwardBlock {
 public:
  // `panels` [input, kMaskRows]
  ForwardBlock(const ForwardArguments& a, const ForwardScratch& scratch, int64_t block, float* panels)
      : a_(a),
        scratch_(scratch),
        few_(a.plan_rows <= kFewRows<V>),
        block_(block),
        end_(std::min(a.x.rows, (block + 1) * kMaskRows)),
        panels_(panels) {}

  // All panels, of the columns that are slice `slice` of `slices`.
  void pack(int64_t slice, int64_t slices) const {
    const int64_t vectors = (a_.x.columns + V::lanes - 1) / V::lanes;
    const int64_t first = vectors * slice / slices * V::lanes;
    const int64_t last = std::min(a_.x.columns, vectors * (slice + 1) / slices * V::lanes);
    for_each_panel([&](int64_t row, int64_t rows) { pack(row, rows, first, last, panel_of(row)); });
  }
  void multiply_packed(int64_t first_chunk, int64_t last_chunk) const {
    if (chunks_first()) {
      for (int64_t chunk = first_chunk; chunk < last_chunk; ++chunk) {
        for_each_panel([&](int64_t row, int64_t rows) { multiply(row, rows, panel_of(row), chunk); });
      }
    } else {
      for_each_panel([&](int64_t row, int64_t rows) {
        for (int64_t chunk = first_chunk; chunk < last_chunk; ++chunk) multiply(row, rows, panel_of(row), chunk);
      });
    }
  }
  void pack_and_multiply() const {
    const int64_t chunks = a_.members * scratch_.chunks;
    if (chunks_first()) {
      pack(0, 1);
      return multiply_packed(0, chunks);
    }
    for_each_panel([&](int64_t row, int64_t rows) {
      pack(row, rows, 0, a_.x.columns, panels_);
      for (int64_t chunk = 0; chunk < chunks; ++chunk) multiply(row, rows, panels_, chunk);
    });
  }

 private:
  static constexpr int64_t kPanelRows = V::tile_vectors * V::lanes;
  static_assert(kMaskRows % kPanelRows == 0 && kHiddenChunk % V::tile_hidden == 0);

  // Whether a chunk meets all panels before the next: where W1 is large, and where the panels are small.
  bool chunks_first() const { return few_ || a_.members * a_.hidden * a_.x.columns > kNearParameters; }

  // body(first row, rows)
  template <class Body>
  void for_each_panel(const Body& body) const {
    for (int64_t row = block_ * kMaskRows, rows; row < end_; row += rows) {
      rows = end_ - row;
      if (few_ || rows > kMostVectors<V> * V::lanes) rows = std::min(few_ ? kFewRowsTile : kPanelRows, rows);
      body(row, rows);
    }
  }
  static int vectors_of(int64_t rows) { return static_cast<int>((rows + V::lanes - 1) / V::lanes); }
  const Element* row_of_x(int64_t row) const { return static_cast<const Element*>(a_.x.data) + row * a_.x.stride; }
  float* panel_of(int64_t row) const { return panels_ + (row - block_ * kMaskRows) * a_.x.columns; }

  void pack(int64_t row, int64_t rows, int64_t first, int64_t last, float* panel) const {
    if (!few_) {
      pack_panel<V>(row_of_x(row), a_.x.stride, rows, first, last, vectors_of(rows), panel);
    } else if constexpr (!std::is_same_v<Element, float>) {
      widen_rows<V>(row_of_x(row), a_.x.stride, rows, a_.x.columns, first, last, panel);
    }
  }

  void multiply(int64_t row, int64_t rows, const float* panel, int64_t chunk) const {
    static constexpr auto tiles = forward_tiles<V>(std::make_integer_sequence<int, kMostVectors<V>>{});
    static constexpr auto few_tiles = few_rows_tiles<V>(std::make_integer_sequence<int, kFewRowsTile>{});
    const int64_t input = a_.x.columns;
    const int vectors = vectors_of(rows);
    int64_t stride = input;
    if constexpr (std::is_same_v<Element, float>) {
      if (few_) panel = row_of_x(row), stride = a_.x.stride;
    }
    Kept kept = {nullptr, activation_rows(a_.plan_rows), rows};
    const uint64_t present = ~uint64_t{0} >> (64 - rows);
    const int64_t shift = row % kMaskRows;
    const int64_t most_units = few_ ? few_rows_units<V>(rows) : forward_units<V>(vectors);
    float* sums = scratch_.chunk_rewards + chunk * scratch_.padded_rows + row;
    std::fill_n(sums, vectors * V::lanes, 0.0f);
    const int64_t member = chunk / scratch_.chunks;
    const int64_t last = member * a_.hidden + chunk_begin(chunk % scratch_.chunks + 1);
    int64_t units;
    for (int64_t h = member * a_.hidden + chunk_begin(chunk % scratch_.chunks); h < last; h += units) {
      units = tile_units(last - h, most_units);
      const float* w1 = a_.head.w1 + h * input;
      const int64_t word = block_ * a_.members * a_.hidden + h;
      if (a_.activations) kept.values = a_.activations + word * kept.stride + shift;
      uint64_t bits[std::max(V::tile_hidden, V::lanes)];
      if (few_) {
        few_tiles[rows - 1][units - 1](w1, a_.head.b1 + h, a_.head.w2 + h, panel, stride, input, sums, bits,
                                        kept);
      } else {
        tiles[vectors - 1][units - 1](w1, a_.head.b1 + h, a_.head.w2 + h, panel, input, sums, bits, kept);
      }
      if (!a_.mask) continue;
      uint64_t* words = a_.mask + word;
      for (int64_t u = 0; u < units; ++u) words[u] = (shift ? words[u] : 0) | (bits[u] & present) << shift;
    }
  }

  // Chunks are as long as each other within a granule, so that threads that share a block have the same to do.
  int64_t chunk_begin(int64_t chunk) const {
    const int64_t granule = few_ ? 3 * V::lanes : V::tile_hidden;
    return std::min(a_.hidden, (a_.hidden + granule - 1) / granule * chunk / scratch_.chunks * granule);
  }
  // Of the next tile, if `left` hidden units are to be done. The last two share what is too little for a tile's speed.
  static int64_t tile_units(int64_t left, int64_t most) {
    if (left <= most) return left;
    return 3 * left < 5 * most ? (left + 1) / 2 : most;
  }

  const ForwardArguments& a_;
  const ForwardScratch& scratch_;
  bool few_;
  int64_t block_, end_;
  float* panels_;
};

template <class V>
void mlp_forward(const ForwardArguments& a, const Executor& executor, void* workspace) {
  const Shape shape = {a.x.rows, a.x.columns, a.hidden, 0, false, a.members};
  const ForwardScratch scratch = ForwardScratch::carve(workspace, shape, executor.threads);
  const int64_t blocks = mask_blocks(a.x.rows);
  const int64_t chunks = a.members * scratch.chunks;
  with_element(a.x.dtype, [&](auto* element) {
    using Block = ForwardBlock<V, std::remove_cvref_t<decltype(*element)>>;
    const auto block = [&](int64_t index, int64_t panels) {
      return Block(a, scratch, index, scratch.panels + panels * scratch.panels_stride);
    };
    if (blocks >= executor.threads) {
      return executor.for_each(blocks, [&](int64_t task, int worker) { block(task, worker).pack_and_multiply(); });
    }
    const int64_t splits = std::min<int64_t>(chunks, executor.threads);
    if (a.plan_rows > kFewRows<V> || a.x.dtype != Dtype::f32) {  // fp32 of few rows is read where it lies
      executor.for_each(blocks * splits, [&](int64_t task, int) {
        block(task / splits, task / splits).pack(task % splits, splits);
      });
    }
    executor.for_each(blocks * splits, [&](int64_t task, int) {
      const int64_t split = task % splits, index = task / splits;
      block(index, index).multiply_packed(chunks * split / splits, chunks * (split + 1) / splits);
    });
  });
  for (int64_t member = 0; member < a.members; ++member) {
    for (int64_t row = 0; row < a.x.rows; row += V::lanes) {
      typename V::Vector reward = V::set(a.head.b2[member]);
      for (int64_t chunk = member * scratch.chunks; chunk < (member + 1) * scratch.chunks; ++chunk) {
        reward = V::add(reward, V::load(scratch.chunk_rewards + chunk * scratch.padded_rows + row));
      }
      store_partial<V>(a.rewards + member * a.x.rows + row, reward, a.x.rows - row);
    }
  }
}

}  // namespace
}  // namespace rewardhead::kernels
