// SPDX-License-Identifier: Apache-2.0
//
//   G = (mask o dr)^T X     g = sum_rows mask o dr                          X [rows, input]  G, W1 [hidden, input]
//   dW1 = diag(w2) G        db1 = w2 o g        dw2[h] = <W1[h], G[h]> + b1[h] g[h]        db2 = sum dr
//   dX = diag(dr) mask (diag(w2) W1)
//   dw2[h] = sum_rows dr relu(z)[:, h], where the forward kept activations
//
// G and dX are both a bit matrix times a real one (subset_sums.h): for G the words are the hidden units' and run over
// rows, for dX they are the rows' and run over hidden units, so the mask is transposed first. Activations are not
// needed: relu(z) = mask z makes dw2 a dot product of W1 with G, taken where G is still in cache.
//
// Work is shared by chunks of columns; each writes its own columns of dW1 and its own part of dw2, and the parts are
// added in ascending order. With few rows and kept activations, where no sum runs over columns, it is also shared by
// hidden units. Nothing depends on the number of threads.
//
// With few rows, reading W1 again for dw2 is a third of what the memory has to do: there activations are kept.
#pragma once

#include <algorithm>

#include "kernels/cpu/subset_sums.h"

namespace rewardhead::kernels {
namespace {

// The most rows for which few_rows_gradient serves: 4 slices' tables are held at once.
#ifdef REWARDHEAD_FORCE_FEW_ROWS  // only in tests
constexpr int64_t kFewRowsBackward = REWARDHEAD_FORCE_FEW_ROWS;
#else
constexpr int64_t kFewRowsBackward = kTables / kSlices * kGroup;
#endif

// Columns of one task of dW1. Few rows leave room for the tables of more of them, which makes longer walks through W1
// and dW1, as long as some tasks are left to share.
constexpr int64_t kFewRowsColumns = 4 * kChunkColumns;
constexpr int kFewRowsChains = 4;  // of a dot product, so that the additions of one do not wait for each other
// Hidden units of one task of few rows at least: with fewer, its tables would take most of the time. Threads share
// units rather than columns where no sum depends on it, because the forward and AdamW share W1 and dW1 by rows: lines
// that one processor has written and another one wants are dearer than lines from memory.
constexpr int64_t kFewRowsUnits = 64;
inline int64_t chunk_columns(int64_t rows, int64_t input) {
  if (rows > kFewRowsBackward) return kChunkColumns;
  int64_t columns = kFewRowsColumns;
  while (columns > kChunkColumns &&
         (columns > input / 8 || groups_of(rows, kGroup) * columns > kTables * kSlice)) {
    columns /= 2;
  }
  return columns;
}

struct BackwardScratch {
  uint64_t* row_words;  // [mask_blocks(hidden), rows]: one member's mask transposed; only for dX
  float* dots;          // [chunks, members, hidden]: <W1[h], G[h]> by chunk of columns
  float* totals;        // [members, hidden]: g
  bool* row_lists;      // [members, mask_blocks(rows)]: which blocks of rows are added one by one (subset_sums.h)
  bool* unit_lists;     // [mask_blocks(hidden)]: likewise for dX, of one member
  char* workers;        // [threads, worker_bytes]
  size_t worker_bytes;
  size_t bytes;

  static BackwardScratch carve(void* workspace, const Shape& shape, int threads) {
    Carver carver(workspace);
    BackwardScratch scratch;
    const int64_t chunks = (shape.input + kChunkColumns - 1) / kChunkColumns;  // the most that there may be
    scratch.row_words = carver.take<uint64_t>(shape.input_gradient ? mask_blocks(shape.hidden) * shape.rows : 0);
    scratch.dots = carver.take<float>(chunks * shape.members * shape.hidden);
    scratch.row_lists = carver.take<bool>(shape.members * mask_blocks(shape.rows));
    scratch.unit_lists = carver.take<bool>(mask_blocks(shape.hidden));
    scratch.totals = carver.take<float>(shape.members * shape.hidden);
    // One worker's memory serves dW1, that of few rows, and dX in turn: the largest of the three.
    Carver weights(nullptr), few(nullptr), inputs(nullptr);
    SubsetScratch::carve(weights, shape.rows, kChunkColumns, shape.hidden);
    SubsetScratch::carve(few, kMaskRows, kFewRowsColumns, 0);
    SubsetScratch::carve(inputs, shape.hidden, kChunkColumns, shape.input_gradient ? shape.rows : 0);
    scratch.worker_bytes = std::max({weights.bytes(), few.bytes(), inputs.bytes()});
    scratch.workers = carver.take<char>(threads * static_cast<int64_t>(scratch.worker_bytes));
    scratch.bytes = carver.bytes();
    return scratch;
  }
  SubsetScratch of_worker(int worker, int64_t matrix_rows, int64_t columns, int64_t words) const {
    Carver carver(workers + worker * worker_bytes);
    return SubsetScratch::carve(carver, matrix_rows, columns, words);
  }
};

// Hidden units, counted through all members.
struct Units {
  int64_t begin, end;
};

// Columns [first, first + columns) of dW1 of some hidden units, and, if `dotted`, their part of <W1[h], G[h]>, where
// all tables of these columns stay in L1 together: no sums are stored, and W1 and dW1 are walked along their rows.
template <class V, int groups, bool dotted>
void few_rows_gradient(const BackwardArguments& a, Units units, int64_t first, int64_t columns, const float* tables,
                       float* dots) {
  using Vector = typename V::Vector;
  for (int64_t unit = units.begin; unit < units.end; ++unit) {
    const float* sums[groups];
    for (int group = 0; group < groups; ++group) {
      const uint64_t subset = a.mask[unit] >> (group * kGroup) & (entries(kGroup) - 1);
      sums[group] = tables + (group * entries(kGroup) + static_cast<int64_t>(subset)) * kSlice;
    }
    const float* w1 = a.head.w1 + unit * a.x.columns + first;
    float* gradient = a.gradient.w1 + unit * a.x.columns + first;
    const Vector outer = V::set(a.head.w2[unit]);
    Vector chains[kFewRowsChains];
    for (Vector& chain : chains) chain = V::set(0.0f);
    const auto finish = [&](int64_t column, Vector& chain, auto load, auto store) __attribute__((always_inline)) {
      const int64_t at = column / kSlice * groups * entries(kGroup) * kSlice + column % kSlice;
      Vector g = V::load(sums[0] + at);
      for (int group = 1; group < groups; ++group) g = V::add(g, V::load(sums[group] + at));
      if constexpr (dotted) chain = V::fma(g, load(w1 + column), chain);
      store(gradient + column, V::mul(g, outer));
    };
    int64_t column = 0;
    for (; column + kFewRowsChains * V::lanes <= columns; column += kFewRowsChains * V::lanes) {
      for (int c = 0; c < kFewRowsChains; ++c) {
        finish(column + c * V::lanes, chains[c], [](const float* from) { return V::load(from); }, V::store);
      }
    }
    for (; column < columns; column += V::lanes) {
      finish(
          column, chains[0], [&](const float* from) { return load_partial<V>(from, columns - column); },
          [&](float* to, Vector value) { store_partial<V>(to, value, columns - column); });
    }
    if constexpr (dotted) dots[unit] = V::sum(V::add(V::add(chains[0], chains[1]), V::add(chains[2], chains[3])));
  }
}

template <class V, class Element, int... index>
void few_rows_gradient_chunk(const BackwardArguments& a, int64_t member, Units units, int64_t first, int64_t columns,
                             const SubsetScratch& scratch, float* dots, std::integer_sequence<int, index...>) {
  using Kernel = void (*)(const BackwardArguments&, Units, int64_t, int64_t, const float*, float*);
  static constexpr Kernel dotted[] = {few_rows_gradient<V, index + 1, true>...};
  static constexpr Kernel plain[] = {few_rows_gradient<V, index + 1, false>...};
  const int groups = groups_of(a.x.rows, kGroup);
  scale_rows<V>(static_cast<const Element*>(a.x.data) + first, a.x.stride, a.reward_gradient + member * a.x.rows,
                a.x.rows, columns, scratch.scaled);
  for (int64_t slice = 0; slice * kSlice < columns; ++slice) {
    build_tables<V, kGroup>(scratch.scaled + slice * kMaskRows * kSlice, a.x.rows,
                            scratch.tables + slice * groups * entries(kGroup) * kSlice);
  }
  (a.activations ? plain : dotted)[groups - 1](a, units, first, columns, scratch.tables, dots);
}

// dW1 of one chunk from its sums, and, if `dotted`, dots.
template <class V, bool dotted>
void finish_weight_gradient(const BackwardArguments& a, int64_t unit, int64_t first, int64_t columns,
                            const float* sums, float* dots) {
  using Vector = typename V::Vector;
  const auto finish = [&](int64_t h, int64_t width, auto load, auto store) __attribute__((always_inline)) {
    const Vector outer = V::set(a.head.w2[unit + h]);
    const int64_t at = (unit + h) * a.x.columns + first;
    Vector chains[2] = {V::set(0.0f), V::set(0.0f)};  // two chains, so that the additions do not wait for each other
    for (int64_t column = 0; column < width; column += V::lanes) {
      const Vector g = V::load(sums + (column / kSlice * a.hidden + h) * kSlice + column % kSlice);
      if constexpr (dotted) {
        Vector& dot = chains[column / V::lanes % 2];
        dot = V::fma(g, load(a.head.w1 + at + column, width - column), dot);
      }
      store(a.gradient.w1 + at + column, V::mul(g, outer), width - column);
    }
    if constexpr (dotted) dots[unit + h] = V::sum(V::add(chains[0], chains[1]));
  };
  if (columns == kChunkColumns) {
    for (int64_t h = 0; h < a.hidden; ++h) {
      finish(
          h, kChunkColumns, [](const float* from, int64_t) { return V::load(from); },
          [](float* to, Vector value, int64_t) { V::store(to, value); });
    }
  } else {
    for (int64_t h = 0; h < a.hidden; ++h) finish(h, columns, load_partial<V, float>, store_partial<V>);
  }
}

// The same of many rows, of all hidden units of a member.
template <class V, class Element>
void weight_gradient_chunk(const BackwardArguments& a, int64_t member, int64_t first, int64_t columns,
                           const bool* lists, const SubsetScratch& scratch, float* dots) {
  const int64_t unit = member * a.hidden, at = unit * a.x.columns + first;
  subset_sums<V>(static_cast<const Element*>(a.x.data) + first, a.x.stride, a.reward_gradient + member * a.x.rows,
                 a.x.rows, columns, a.mask + unit, a.members * a.hidden, a.hidden, lists,
                 {{a.activations ? nullptr : a.head.w1 + at, a.gradient.w1 + at}, a.x.columns}, scratch);
  if (a.activations) {
    finish_weight_gradient<V, false>(a, unit, first, columns, scratch.sums, dots);
  } else {
    finish_weight_gradient<V, true>(a, unit, first, columns, scratch.sums, dots);
  }
}

// table[subset] = sum of the subset of eight rows' dr, ascending.
template <class V>
void build_scalar_table(const float (&dr)[8], float* table) {
  table[0] = 0;
  int size = 1;
  for (; size < V::lanes && size < 256; size *= 2) {
    const float next = dr[std::countr_zero(static_cast<unsigned>(size))];
    for (int subset = 0; subset < size; ++subset) table[size + subset] = table[subset] + next;
  }
  for (; size < 256; size *= 2) {
    const typename V::Vector next = V::set(dr[std::countr_zero(static_cast<unsigned>(size))]);
    for (int subset = 0; subset < size; subset += V::lanes) {
      V::store(table + size + subset, V::add(V::load(table + subset), next));
    }
  }
}

// g[h] of one member: sum over active rows of dr, by a table for each eight rows.
template <class V>
void masked_totals(const BackwardArguments& a, int64_t member, float* totals) {
  const float* reward_gradient = a.reward_gradient + member * a.x.rows;
  std::fill_n(totals, a.hidden, 0.0f);
  alignas(kAlignment) float tables[8][256];
  for (int64_t block = 0; block < mask_blocks(a.x.rows); ++block) {
    for (int byte = 0; byte < 8; ++byte) {
      const int64_t row = block * kMaskRows + byte * 8;
      float dr[8] = {};
      for (int64_t i = 0; i < std::min<int64_t>(8, a.x.rows - row); ++i) dr[i] = reward_gradient[row + i];
      build_scalar_table<V>(dr, tables[byte]);
    }
    const uint64_t* words = a.mask + (block * a.members + member) * a.hidden;
    for (int64_t h = 0; h < a.hidden; ++h) {
      const auto sum = [&](int byte) { return tables[byte][words[h] >> (8 * byte) & 255]; };
      totals[h] += ((sum(0) + sum(1)) + (sum(2) + sum(3))) + ((sum(4) + sum(5)) + (sum(6) + sum(7)));
    }
  }
}

// dw2 of one member from the activations, rows ascending in as many chains as lanes.
template <class V>
void activation_dots(const BackwardArguments& a, int64_t member) {
  const float* reward_gradient = a.reward_gradient + member * a.x.rows;
  float* gradient = a.gradient.w2 + member * a.hidden;
  const int64_t stride = activation_rows(a.plan_rows);
  std::fill_n(gradient, a.hidden, 0.0f);
  for (int64_t block = 0; block < mask_blocks(a.x.rows); ++block) {
    const int64_t rows = std::min(kMaskRows, a.x.rows - block * kMaskRows);
    const float* activations = a.activations + (block * a.members + member) * a.hidden * stride;
    for (int64_t h = 0; h < a.hidden; ++h) {
      typename V::Vector sum = V::set(0.0f);
      for (int64_t row = 0; row < rows; row += V::lanes) {
        const auto dr = load_partial<V>(reward_gradient + block * kMaskRows + row, rows - row);
        const auto activation = load_partial<V>(activations + h * stride + row, rows - row);
        // dr of inactive rows counts no more than behind the mask, should it be NaN.
        sum = V::select_greater(activation, V::set(0.0f), V::fma(dr, activation, sum), V::add(sum, activation));
      }
      gradient[h] += V::sum(sum);
    }
  }
}

// bits[j] bit i <- bits[i] bit j, by exchanging ever smaller off-diagonal squares.
inline void transpose_bits(uint64_t (&bits)[64]) {
  uint64_t low = 0x00000000ffffffffu;
  for (int size = 32; size; size /= 2, low ^= low << size) {
    for (int i = 0; i < 64; i = ((i | size) + 1) & ~size) {
      const uint64_t moved = (bits[i] >> size ^ bits[i | size]) & low;
      bits[i] ^= moved << size;
      bits[i | size] ^= moved;
    }
  }
}

// row_words[block of 64 hidden units][row], from one member's mask[block of 64 rows][hidden unit].
inline void transpose_mask(const BackwardArguments& a, int64_t member, int64_t row_block, uint64_t* row_words) {
  const int64_t first = row_block * kMaskRows;
  const int64_t rows = std::min(kMaskRows, a.x.rows - first);
  for (int64_t h = 0; h < a.hidden; h += 64) {
    uint64_t bits[64] = {};
    std::copy_n(a.mask + (row_block * a.members + member) * a.hidden + h, std::min<int64_t>(64, a.hidden - h), bits);
    transpose_bits(bits);
    std::copy_n(bits, rows, row_words + h / 64 * a.x.rows + first);
  }
}

// Columns [first, first + columns) of one member's part of dX; the first member's is stored, the others' are added.
template <class V>
void input_gradient_chunk(const BackwardArguments& a, int64_t member, int64_t first, int64_t columns,
                          const uint64_t* row_words, const bool* lists, const SubsetScratch& scratch) {
  const int64_t unit = member * a.hidden;
  subset_sums<V>(a.head.w1 + unit * a.x.columns + first, a.x.columns, a.head.w2 + unit, a.hidden, columns, row_words,
                 a.x.rows, a.x.rows, lists,
                 {{a.input_gradient + first, nullptr}, a.input_gradient_stride}, scratch);
  for (int64_t row = 0; row < a.x.rows; ++row) {
    const typename V::Vector dr = V::set(a.reward_gradient[member * a.x.rows + row]);
    float* gradient = a.input_gradient + row * a.input_gradient_stride + first;
    for (int64_t column = 0; column < columns; column += V::lanes) {
      const int64_t count = columns - column;
      const auto sum = V::load(scratch.sums + (column / kSlice * a.x.rows + row) * kSlice + column % kSlice);
      store_partial<V>(gradient + column,
                       member ? V::fma(dr, sum, load_partial<V>(gradient + column, count)) : V::mul(dr, sum), count);
    }
  }
}

template <class V>
void mlp_backward(const BackwardArguments& a, const Executor& executor, void* workspace) {
  const Shape shape = {a.x.rows, a.x.columns, a.hidden, 0, a.input_gradient != nullptr, a.members};
  const BackwardScratch scratch = BackwardScratch::carve(workspace, shape, executor.threads);
  const int64_t width = chunk_columns(a.x.rows, a.x.columns);
  const int64_t chunks = (a.x.columns + width - 1) / width;
  const int64_t units = a.members * a.hidden;
  const int64_t blocks = mask_blocks(a.x.rows);
  const bool few = a.x.rows <= kFewRowsBackward;
  const int64_t parts = few && a.activations ? std::clamp<int64_t>(units / kFewRowsUnits, 1, executor.threads) : 1;
  for (int64_t member = 0; !few && member < a.members; ++member) {
    choose_lists(a.mask + member * a.hidden, units, a.hidden, a.x.rows, scratch.row_lists + member * blocks);
  }
  with_element(a.x.dtype, [&](auto* element) {
    using Element = std::remove_cvref_t<decltype(*element)>;
    // The last task is the biases'. The others are a chunk of a part of the hidden units, and keep their columns of X in
    // cache for all members.
    executor.for_each(parts * chunks + 1, [&](int64_t task, int worker) {
      const int64_t part = task / chunks, first = task % chunks * width;
      const int64_t columns = std::min(width, a.x.columns - first);
      const SubsetScratch subsets = scratch.of_worker(worker, few ? kMaskRows : a.x.rows, width, few ? 0 : a.hidden);
      float* dots = scratch.dots + task % chunks * units;
      for (int64_t member = 0; member < a.members; ++member) {
        const int64_t unit = member * a.hidden;
        if (part == parts) {
          masked_totals<V>(a, member, scratch.totals + unit);
          if (a.activations) activation_dots<V>(a, member);
        } else if (few) {
          const Units shared = {std::max(unit, units * part / parts),
                                std::min(unit + a.hidden, units * (part + 1) / parts)};
          if (shared.begin >= shared.end) continue;
          few_rows_gradient_chunk<V, Element>(a, member, shared, first, columns, subsets, dots,
                                              std::make_integer_sequence<int, kTables / kSlices>{});
        } else {
          weight_gradient_chunk<V, Element>(a, member, first, columns, scratch.row_lists + member * blocks, subsets,
                                            dots);
        }
      }
    });
  });
  for (int64_t unit = 0; unit < units; ++unit) {
    a.gradient.b1[unit] = a.head.w2[unit] * scratch.totals[unit];
    if (a.activations) continue;
    float inner = a.head.b1[unit] * scratch.totals[unit];
    for (int64_t chunk = 0; chunk < chunks; ++chunk) inner += scratch.dots[chunk * units + unit];
    a.gradient.w2[unit] = inner;
  }
  for (int64_t member = 0; member < a.members; ++member) {
    double total = 0;
    for (int64_t row = 0; row < a.x.rows; ++row) total += a.reward_gradient[member * a.x.rows + row];
    a.gradient.b2[member] = static_cast<float>(total);
  }
  for (int64_t member = 0; a.input_gradient && member < a.members; ++member) {
    executor.for_each(blocks, [&](int64_t task, int) { transpose_mask(a, member, task, scratch.row_words); });
    choose_lists(scratch.row_words, a.x.rows, a.x.rows, a.hidden, scratch.unit_lists);
    executor.for_each((a.x.columns + kChunkColumns - 1) / kChunkColumns, [&](int64_t task, int worker) {
      const int64_t first = task * kChunkColumns;
      input_gradient_chunk<V>(a, member, first, std::min(kChunkColumns, a.x.columns - first), scratch.row_words,
                              scratch.unit_lists, scratch.of_worker(worker, a.hidden, kChunkColumns, a.x.rows));
    });
  }
}

}  // namespace
}  // namespace rewardhead::kernels
