// SPDX-License-Identifier: Apache-2.0
//
//   sums[i, :] = sum over j with bit j of mask word i set of scale[j] * matrix[j, :]
//
// The product of a bit matrix with a real one, without multiplying: the rows j are taken in groups, all sums of a
// group's subsets are tabulated, and every i then costs one vector addition a group, indexed by the group's bits of its
// word ("Method of the Four Russians": Arlazarov, Dinic, Kronrod, Faradzev, Soviet Math. Doklady 11, 1970). One
// addition does the work of a group's multiply-adds, at any density of the mask.
//
// Columns go in slices of kSlice floats, so that a table entry is one cache line. The tables of a 64-bit word take 16
// KB in groups of 4 and 25 KB in groups of 5 (the last of 4), and stay in L1 beside the sums; several words at a time
// keep enough independent additions in flight. Bound by two L1 loads a cycle (one of 512 bits on Zen 4): 16 or 13
// entries for each word and slice. Building costs one addition and store an entry, shared by all i, so that groups of 5
// pay where many words share them.
//
// Where few bits are set, or few words share a table, it is cheaper to add the rows of the set bits one by one
// (prefers_list): a rows' block of the mask goes one way or the other.
//
// The order is fixed by shapes and mask: ascending within a group (tree of the table) or list, groups ascending, first
// the blocks that use tables, then those that use lists. A word's sum is finished before it joins the others: chains of
// 16 and of words, not of 16 times as many roundings.
#pragma once

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "kernels/cpu/partial.h"
#include "kernels/workspace.h"

namespace rewardhead::kernels {
namespace {

constexpr int kGroup = 4;        // rows of one table,
constexpr int kWideGroup = 5;    // and these
constexpr int kWideWords = 160;  // where at least so many words share it
constexpr int kSlice = 16;       // floats
constexpr int kSlices = 4;       // of one chunk of columns: four cache lines read together
constexpr int64_t kChunkColumns = kSlice * kSlices;
constexpr int kTables = 32;     // of kGroup rows, where several slices' are wanted together: 32 KB, an L1 of Zen
constexpr int kEntryShift = 6;  // log2 of an entry's bytes
static_assert(kSlice * sizeof(float) == 1 << kEntryShift);

constexpr int entries(int group) { return 1 << group; }
constexpr int groups_of(int64_t rows, int group) { return static_cast<int>((rows + group - 1) / group); }

struct SubsetScratch {
  float* scaled;  // [slices, padded rows of the matrix, kSlice]
  float* tables;  // [kTables, entries(kGroup), kSlice]
  float* sums;    // [slices, words, kSlice]: the result

  // `columns`: a multiple of kSlice, the most of a call.
  static SubsetScratch carve(Carver& carver, int64_t matrix_rows, int64_t columns, int64_t words) {
    SubsetScratch scratch;
    scratch.scaled = carver.take<float>(mask_blocks(matrix_rows) * kMaskRows * columns);
    scratch.tables = carver.take<float>(kTables * entries(kGroup) * kSlice);
    scratch.sums = carver.take<float>(words * columns);
    return scratch;
  }
};
static_assert(groups_of(kMaskRows, kWideGroup) * entries(kWideGroup) <= kTables * entries(kGroup) &&
              kTables * entries(kGroup) * kSlice * sizeof(float) == kTableBytes);

// scaled[slice][row][:] = scale[row] * matrix[row, :]; columns beyond the matrix are zero, and rows that a table may
// reach.
template <class V, class Element>
void scale_rows(const Element* matrix, int64_t stride, const float* scale, int64_t rows, int64_t columns,
                float* scaled) {
  const int64_t padded = mask_blocks(rows) * kMaskRows;
  const int64_t slices = (columns + kSlice - 1) / kSlice;
  for (int64_t row = 0; row < std::min(padded, rows + kGroup - 1); ++row) {
    const typename V::Vector factor = V::set(row < rows ? scale[row] : 0.0f);
    for (int64_t slice = 0; slice < slices; ++slice) {
      for (int64_t lane = 0; lane < kSlice; lane += V::lanes) {
        const int64_t column = slice * kSlice + lane;
        const bool inside = row < rows && column < columns;
        V::store(
            scaled + (slice * padded + row) * kSlice + lane,
            inside ? V::mul(factor, load_partial<V>(matrix + row * stride + column, columns - column)) : V::set(0.0f));
      }
    }
  }
}

// table[subset][:] = sum of the subset of `group` rows, ascending.
template <class V, int group>
void build_table(const float* rows, float* table) {
  using Vector = typename V::Vector;
  static_assert(group == kGroup || group == kWideGroup);
  for (int lane = 0; lane < kSlice; lane += V::lanes) {
    const auto row = [&](int bit) { return V::load(rows + bit * kSlice + lane); };
    const auto keep = [&](int subset, Vector sum) {
      V::store(table + subset * kSlice + lane, sum);
      return sum;
    };
    // The sums of three rows stay in registers; each is met again with the others.
    Vector sums[8];
    sums[0] = keep(0, V::set(0.0f));
    for (int bit = 0; bit < 3; ++bit) {
      const Vector next = row(bit);
      for (int subset = 0; subset < 1 << bit; ++subset) {
        const int with = subset | 1 << bit;
        sums[with] = keep(with, subset ? V::add(sums[subset], next) : next);
      }
    }
    const Vector fourth = row(3), fifth = row(group - 1);
    for (int subset = 0; subset < 8; ++subset) {
      const Vector with = keep(subset | 8, subset ? V::add(sums[subset], fourth) : fourth);
      if constexpr (group == kWideGroup) {
        keep(subset | 16, subset ? V::add(sums[subset], fifth) : fifth);
        keep(subset | 24, V::add(with, fifth));
      }
    }
  }
}

// Of `present` rows, at most kMaskRows, one table after the other. What is left over after whole groups is reached by
// at most kGroup bits.
template <class V, int group>
void build_tables(const float* rows, int64_t present, float* tables) {
  int64_t row = 0;
  for (; row + group <= present; row += group, tables += entries(group) * kSlice) {
    build_table<V, group>(rows + row * kSlice, tables);
  }
  if (row < present) build_table<V, kGroup>(rows + row * kSlice, tables);
}

// sum[v] += the entries that the words name, for `count` words side by side.
template <class V, int group, int count, int vectors>
[[gnu::always_inline]] inline void add_entries(const float* tables, int groups, const uint64_t* words,
                                               typename V::Vector (&sum)[count][vectors]) {
  uint64_t rest[count];
  std::copy_n(words, count, rest);
  for (int g = 0; g < groups; ++g, tables += entries(group) * kSlice) {
    for (int i = 0; i < count; ++i) {
      const float* entry = tables + (rest[i] & (entries(group) - 1)) * kSlice;
      rest[i] >>= group;
      for (int v = 0; v < vectors; ++v) sum[i][v] = V::add(sum[i][v], V::load(entry + v * V::lanes));
    }
  }
}

// The same for all groups of whole words, where the vector type adds an entry in a few instructions of its own.
template <class V, int group, int count, int vectors, int... g>
[[gnu::always_inline]] inline void add_entries(const float* tables, const uint64_t* words,
                                               typename V::Vector (&sum)[count][vectors],
                                               std::integer_sequence<int, g...>) {
  const auto add = [&]<int first>(std::integral_constant<int, first>) __attribute__((always_inline)) {
    constexpr int turn = (first * group - kEntryShift) & 63;  // brings the group's bits where they are a byte offset
    constexpr int bits = std::min<int>(group, kMaskRows - first * group);
    for (int i = 0; i < count; ++i) {
      V::template add_entry<turn, (entries(bits) - 1) << kEntryShift, first * entries(group) << kEntryShift>(
          tables, words[i], sum[i]);
    }
  };
  (add(std::integral_constant<int, g>()), ...);
}

// sums[i][:] += the entries that words[i] names, for `count` words side by side.
template <class V, int group, int count>
void look_up(const float* tables, int64_t present, const uint64_t* words, float* sums) {
  constexpr int vectors = kSlice / V::lanes;
  typename V::Vector sum[count][vectors];
  for (int i = 0; i < count; ++i) {
    for (int v = 0; v < vectors; ++v) sum[i][v] = V::set(0.0f);
  }
  const int groups = groups_of(present, group);
  bool added = false;
  if constexpr (requires { V::template add_entry<0, 0, 0>(tables, words[0], sum[0]); }) {
    if ((added = present == kMaskRows)) {
      add_entries<V, group>(tables, words, sum, std::make_integer_sequence<int, groups_of(kMaskRows, group)>());
    }
  }
  if (!added) add_entries<V, group>(tables, groups, words, sum);
  for (int i = 0; i < count; ++i) {
    for (int v = 0; v < vectors; ++v) {
      float* to = sums + i * kSlice + v * V::lanes;
      V::store(to, V::add(V::load(to), sum[i][v]));
    }
  }
}

// Memory that is wanted once the sums are there: row i of each matrix for word i. It is asked for during the last
// look-ups of a slice, which leave the memory idle.
struct Wanted {
  const float* matrices[2];  // null: none
  int64_t stride;

  [[gnu::always_inline]] void ask_for(int64_t word, int64_t count, int64_t column) const {
    for (const float* matrix : matrices) {
      if (!matrix) continue;
      for (int64_t i = word; i < word + count; ++i) __builtin_prefetch(matrix + i * stride + column, 0, 2);
    }
  }
};

// sums[i][:] += what words[i] names of a block of `present` rows, for all `count` words.
template <class V, int group, class Ask>
void add_block(const float* rows, int64_t present, const uint64_t* words, int64_t count, float* tables, float* sums,
               const Ask& ask) {
  constexpr int side_by_side = std::min(8, 16 * V::lanes / kSlice);  // sums that the registers hold
  build_tables<V, group>(rows, present, tables);
  int64_t i = 0;
  for (; i + side_by_side <= count; i += side_by_side) {
    ask(i, side_by_side);
    look_up<V, group, side_by_side>(tables, present, words + i, sums + i * kSlice);
  }
  for (; i < count; ++i) {
    ask(i, 1);
    look_up<V, group, 1>(tables, present, words + i, sums + i * kSlice);
  }
}

// Whether the rows of a block are added one by one: if the bits of its `count` words are fewer than entries would be
// built and looked up. Measured (Zen 4, 1,052 rows, 256 hidden units): lists win below 27 % of the bits.
inline bool prefers_list(const uint64_t* words, int64_t count, int64_t present) {
  int64_t bits = 0;
  for (int64_t i = 0; i < count; ++i) bits += std::popcount(words[i]);
#ifdef REWARDHEAD_FORCE_LISTS  // only in tests
  bits = REWARDHEAD_FORCE_LISTS ? 0 : std::numeric_limits<int64_t>::max();
#endif
  return bits < groups_of(present, kGroup) * (count + entries(kGroup));
}

// lists[block] for all blocks of words, as subset_sums takes them.
inline void choose_lists(const uint64_t* words, int64_t word_stride, int64_t count, int64_t rows, bool* lists) {
  for (int64_t block = 0; block < mask_blocks(rows); ++block) {
    lists[block] = prefers_list(words + block * word_stride, count, std::min(kMaskRows, rows - block * kMaskRows));
  }
}

// sums[slice][i][:] += the rows that words[i] names, one by one, in `slices` slices at once; strides are floats from
// slice to slice.
template <class V, int slices>
void add_listed_rows(const float* rows, int64_t row_stride, const uint64_t* words, int64_t count, float* sums,
                     int64_t sum_stride) {
  constexpr int vectors = kSlice / V::lanes;
  for (int64_t i = 0; i < count; ++i) {
    typename V::Vector sum[slices][vectors];
    for (int s = 0; s < slices; ++s) {
      for (int v = 0; v < vectors; ++v) sum[s][v] = V::set(0.0f);
    }
    for (uint64_t bits = words[i]; bits; bits &= bits - 1) {
      const float* row = rows + std::countr_zero(bits) * kSlice;
      for (int s = 0; s < slices; ++s) {
        for (int v = 0; v < vectors; ++v) sum[s][v] = V::add(sum[s][v], V::load(row + s * row_stride + v * V::lanes));
      }
    }
    for (int s = 0; s < slices; ++s) {
      for (int v = 0; v < vectors; ++v) {
        float* to = sums + s * sum_stride + i * kSlice + v * V::lanes;
        V::store(to, V::add(V::load(to), sum[s][v]));
      }
    }
  }
}

// `columns` of the matrix, at most the scratch's. words [mask_blocks(rows)][count], `word_stride` from one block to the
// next; scratch.sums [slice][count][kSlice].
template <class V, class Element>
void subset_sums(const Element* matrix, int64_t stride, const float* scale, int64_t rows, int64_t columns,
                 const uint64_t* words, int64_t word_stride, int64_t count, const bool* lists,
                 const Wanted& wanted, const SubsetScratch& scratch) {
  const int64_t blocks = mask_blocks(rows);
  const int64_t slices = (columns + kSlice - 1) / kSlice;
  scale_rows<V>(matrix, stride, scale, rows, columns, scratch.scaled);
  for (int64_t slice = 0; slice < slices; ++slice) {
    float* sums = scratch.sums + slice * count * kSlice;
    std::fill_n(sums, count * kSlice, 0.0f);
    for (int64_t block = 0; block < blocks; ++block) {
      if (lists[block]) continue;
      const int64_t present = std::min(kMaskRows, rows - block * kMaskRows);
      const float* scaled = scratch.scaled + (slice * blocks + block) * kMaskRows * kSlice;
      const auto add = [&](const auto& ask) {
        if (count < kWideWords) {
          add_block<V, kGroup>(scaled, present, words + block * word_stride, count, scratch.tables, sums, ask);
        } else {
          add_block<V, kWideGroup>(scaled, present, words + block * word_stride, count, scratch.tables, sums, ask);
        }
      };
      if (block + 1 < blocks) {
        add([](int64_t, int64_t) {});
      } else {
        add([&](int64_t word, int64_t some) { wanted.ask_for(word, some, slice * kSlice); });
      }
    }
  }
  for (int64_t block = 0; block < blocks; ++block) {
    if (!lists[block]) continue;
    const uint64_t* word = words + block * word_stride;
    const int64_t row_stride = blocks * kMaskRows * kSlice;
    const auto rows_of = [&](int64_t slice) {
      return scratch.scaled + slice * row_stride + block * kMaskRows * kSlice;
    };
    int64_t slice = 0;
    for (; slice + kSlices <= slices; slice += kSlices) {
      add_listed_rows<V, kSlices>(rows_of(slice), row_stride, word, count, scratch.sums + slice * count * kSlice,
                                  count * kSlice);
    }
    for (; slice < slices; ++slice) {
      add_listed_rows<V, 1>(rows_of(slice), row_stride, word, count, scratch.sums + slice * count * kSlice, 0);
    }
  }
}

}  // namespace
}  // namespace rewardhead::kernels
