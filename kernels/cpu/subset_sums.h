// SPDX-License-Identifier: Apache-2.0
//
//   sums[i, :] = sum over j with bit j of mask word i set of scale[j] * matrix[j, :]
//
// The product of a bit matrix with a real one, without multiplying: the rows j are taken in groups of kGroup, all
// 2^kGroup sums of a group's subsets are tabulated, and every i then costs one vector addition a group, indexed by
// kGroup bits of its word ("Method of the Four Russians": Arlazarov, Dinic, Kronrod, Faradzev, Soviet Math. Doklady
// 11, 1970). One addition does the work of kGroup multiply-adds, at any density of the mask.
//
// Columns go in slices of kSlice floats, so that a table entry is one cache line. The 16 tables of a 64-bit word take
// 16 KB and stay in L1 beside the sums; four words at a time keep enough independent additions in flight. Per slice
// and word: 16 lookups of kSlice floats, bound by two L1 loads a cycle (half of that for 512-bit loads on Zen 4).
// Building the tables costs 16 additions and stores for each group of 4 rows, shared by all i.
//
// Where few bits are set, or few words share a table, it is cheaper to add the rows of the set bits one by one
// (prefer_lists): a rows' block of the mask goes one way or the other.
//
// The order is fixed by shapes and mask: ascending within a group (tree of the table) or list, groups ascending, first
// the blocks that use tables, then those that use lists. A word's sum is finished before it joins the others: chains of
// 16 and of words, not of 16 times as many roundings.
#pragma once

#include <algorithm>
#include <bit>
#include <limits>

#include "kernels/cpu/partial.h"
#include "kernels/workspace.h"

namespace rewardhead::kernels {
namespace {

constexpr int kGroup = 4;
constexpr int kEntries = 1 << kGroup;
constexpr int kGroups = 64 / kGroup;  // of one mask word
constexpr int kSlice = 16;            // floats
constexpr int kSlices = 4;            // of one chunk of columns: four cache lines read together
constexpr int64_t kChunkColumns = kSlice * kSlices;
constexpr int kTables = 32;     // at once, where several slices' tables are wanted together: 32 KB, an L1 of Zen
constexpr int kEntryShift = 6;  // log2 of an entry's bytes
static_assert(kSlice * sizeof(float) == 1 << kEntryShift);

struct SubsetScratch {
  float* scaled;  // [slices, padded rows of the matrix, kSlice]
  float* tables;  // [kTables, kEntries, kSlice]
  float* sums;    // [slices, words, kSlice]: the result

  // `columns`: a multiple of kSlice, the most of a call.
  static SubsetScratch carve(Carver& carver, int64_t matrix_rows, int64_t columns, int64_t words) {
    SubsetScratch scratch;
    scratch.scaled = carver.take<float>(mask_blocks(matrix_rows) * kMaskRows * columns);
    scratch.tables = carver.take<float>(kTables * kEntries * kSlice);
    scratch.sums = carver.take<float>(words * columns);
    return scratch;
  }
};
static_assert(kTables >= kGroups);

// scaled[slice][row][:] = scale[row] * matrix[row, :]; columns beyond the matrix are zero, and rows up to a whole
// group.
template <class V, class Element>
void scale_rows(const Element* matrix, int64_t stride, const float* scale, int64_t rows, int64_t columns,
                float* scaled) {
  const int64_t padded = mask_blocks(rows) * kMaskRows;
  const int64_t slices = (columns + kSlice - 1) / kSlice;
  for (int64_t row = 0; row < (rows + kGroup - 1) / kGroup * kGroup; ++row) {
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

// tables[group][subset][:] = sum of the group's rows in the subset.
template <class V>
void build_tables(const float* rows, int groups, float* tables) {
  using Vector = typename V::Vector;
  for (int group = 0; group < groups; ++group) {
    for (int lane = 0; lane < kSlice; lane += V::lanes) {
      const float* from = rows + group * kGroup * kSlice + lane;
      float* table = tables + group * kEntries * kSlice + lane;
      Vector entries[kEntries];
      entries[0] = V::set(0.0f);
      V::store(table, entries[0]);
      for (int bit = 0; bit < kGroup; ++bit) {
        const Vector row = V::load(from + bit * kSlice);
        for (int subset = 0; subset < 1 << bit; ++subset) {
          const int with = subset | 1 << bit;
          entries[with] = subset ? V::add(entries[subset], row) : row;
          V::store(table + with * kSlice, entries[with]);
        }
      }
    }
  }
}

// sums[i][:] += the entries that words[i] names, for `count` words side by side.
template <class V, int count>
void look_up(const float* tables, int groups, const uint64_t* words, float* sums) {
  constexpr int vectors = kSlice / V::lanes;
  typename V::Vector sum[count][vectors];
  uint64_t rotated[count];  // the group's bits lie where they are the entry's byte offset
  for (int i = 0; i < count; ++i) {
    rotated[i] = std::rotl(words[i], kEntryShift);
    for (int v = 0; v < vectors; ++v) sum[i][v] = V::set(0.0f);
  }
  const char* table = reinterpret_cast<const char*>(tables);
  for (int group = 0; group < groups; ++group, table += kEntries << kEntryShift) {
    for (int i = 0; i < count; ++i) {
      const float* entry = reinterpret_cast<const float*>(table + (rotated[i] & (kEntries - 1) << kEntryShift));
      rotated[i] = std::rotr(rotated[i], kGroup);
      for (int v = 0; v < vectors; ++v) sum[i][v] = V::add(sum[i][v], V::load(entry + v * V::lanes));
    }
  }
  for (int i = 0; i < count; ++i) {
    for (int v = 0; v < vectors; ++v) {
      float* to = sums + i * kSlice + v * V::lanes;
      V::store(to, V::add(V::load(to), sum[i][v]));
    }
  }
}

// Whether the rows of a block are added one by one: if the bits of its `count` words are fewer than entries would be
// built and looked up. Measured (Zen 4, 1,052 rows, 256 hidden units): lists win below 27 % of the bits.
inline bool prefers_list(const uint64_t* words, int64_t count, int64_t present) {
  int64_t bits = 0;
  for (int64_t i = 0; i < count; ++i) bits += std::popcount(words[i]);
  const int64_t groups = (present + kGroup - 1) / kGroup;
#ifdef REWARDHEAD_FORCE_LISTS  // only in tests
  bits = REWARDHEAD_FORCE_LISTS ? 0 : std::numeric_limits<int64_t>::max();
#endif
  return bits < groups * (count + kEntries);
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
                 const SubsetScratch& scratch) {
  const int64_t blocks = mask_blocks(rows);
  const int64_t slices = (columns + kSlice - 1) / kSlice;
  scale_rows<V>(matrix, stride, scale, rows, columns, scratch.scaled);
  for (int64_t slice = 0; slice < slices; ++slice) {
    float* sums = scratch.sums + slice * count * kSlice;
    std::fill_n(sums, count * kSlice, 0.0f);
    for (int64_t block = 0; block < blocks; ++block) {
      if (lists[block]) continue;
      const int64_t present = std::min(kMaskRows, rows - block * kMaskRows);
      const int groups = static_cast<int>((present + kGroup - 1) / kGroup);
      build_tables<V>(scratch.scaled + (slice * blocks + block) * kMaskRows * kSlice, groups, scratch.tables);
      const uint64_t* word = words + block * word_stride;
      int64_t i = 0;
      for (; i + 4 <= count; i += 4) look_up<V, 4>(scratch.tables, groups, word + i, sums + i * kSlice);
      for (; i < count; ++i) look_up<V, 1>(scratch.tables, groups, word + i, sums + i * kSlice);
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
