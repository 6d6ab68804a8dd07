// SPDX-License-Identifier: Apache-2.0
//
//   d = r[chosen] - r[rejected] - margin
//   L = sum_p weight (label softplus(-d) + (1 - label) softplus(d)) / normalizer
//   dL/dd = weight ((1 - label) sigmoid(d) - label sigmoid(-d)) / normalizer, to chosen with +, to rejected with -
//
// A thread takes pairs 256 apart, four of them, and a block 1,024. Losses are added in a fixed tree: a thread's in
// fp32, the lanes, warps and blocks in fp64. Where the slopes go depends on what the pairs are:
//
//   adjacent rows       a row is in one pair at most: slopes are written where they belong     1 launch; from 1,025
//                                                                                              pairs on 2
//   a short list        one block; each thread adds its own rows' slopes over all pairs,       1 launch
//                       which wait in shared memory (16 B each, read as one broadcast)
//   a list              slopes to memory; rows get segments of entries (pair, side), filled    4 launches and a memset
//                       in any order; a warp a row ranks its entries and adds by rank
//
// The members of an ensemble share the launches and the pairs, hence segments and ranks; slopes and losses are each
// one's own.
//
// Integer atomics only count and hand out places: which place an entry gets changes neither its rank nor any sum. A row
// in k pairs costs its warp k^2 / 32 comparisons, nothing below a few hundred.
//
// Bounds (predictions): launches, about 2 us each, up to some 10,000 pairs; then the gathers from L2, 16 B a pair.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/pair_slope.h"
#include "kernels/cuda/scalar.h"
#include "kernels/workspace.h"

namespace rewardhead::kernels::cuda {
namespace {

// ---- kernels

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kThreadPairs = 4, kBlockPairs = kThreads * kThreadPairs;
constexpr int kShortThreads = 1024, kShortPairs = 1024;
constexpr int64_t kShortWork = 1 << 17;  // rows * pairs of a short list: 6 us of comparisons, as long as three launches

struct PairParameters {
  PairLossArguments arguments;
  float scale;  // 1 / normalizer
  uint32_t* bad_pairs;
  double* losses;  // [members, blocks]
  int64_t blocks;  // of one member, that write losses
  // Of a list.
  float* slopes;       // [members, pairs]
  uint32_t* counts;    // [rows + 1]: entries of a row, then its segment's next free one; last, all that are handed out
  uint32_t* segments;  // [rows]
  uint32_t* entries;   // [2 pairs]: 2 pair + (row is the rejected one), in any order
  uint32_t* ranked;    // [2 pairs]
};

struct Pair {
  int64_t chosen, rejected;
  bool good;
};
RH_DEVICE Pair listed_pair(const PairLossArguments& a, int64_t p) {
  const int32_t chosen = static_cast<int32_t>(ptx::ldg32(a.chosen + p));
  const int32_t rejected = static_cast<int32_t>(ptx::ldg32(a.rejected + p));
  const bool good = chosen >= 0 && chosen < a.rows && rejected >= 0 && rejected < a.rows && chosen != rejected;
  return {chosen, rejected, good};
}

// Which of a member's blocks this is.
struct Part {
  int64_t member, block;
};
RH_DEVICE Part block_part(const PairParameters& p) {
  return {ptx::block_index() / p.blocks, ptx::block_index() % p.blocks};
}

// A member's r[chosen] - r[rejected].
RH_DEVICE float difference(const PairLossArguments& a, int64_t member, int64_t chosen, int64_t rejected) {
  const float* const rewards = a.rewards + member * a.rows;
  return ptx::ldg32f(rewards + chosen) - ptx::ldg32f(rewards + rejected);
}

// Thread 0 writes the loss, or what the block adds to it.
template <int warps>
RH_DEVICE void finish_loss(const PairParameters& p, const Part& part, double block_loss, uint32_t shared) {
  block_loss = block_sum<warps>(block_loss, shared);
  if (ptx::thread_index() != 0) return;
  if (p.blocks == 1) {
    ptx::stg32f(p.arguments.loss + part.member, static_cast<float>(block_loss / p.arguments.normalizer));
  } else {
    store_double(p.losses + part.member * p.blocks + part.block, block_loss);
  }
}

// One block's: the losses of a member's blocks, each thread's in ascending order.
RH_DEVICE void add_losses(const PairParameters& p, int64_t member) {
  const double* const losses = p.losses + member * p.blocks;
  double sum = 0;
  for (int64_t block = ptx::thread_index(); block < p.blocks; block += kThreads) sum += load_double(losses + block);
  sum = block_sum<kWarps>(sum, ptx::smem_base());
  if (ptx::thread_index() != 0) return;
  ptx::stg32f(p.arguments.loss + member, static_cast<float>(sum / p.arguments.normalizer));
}

RH_KERNEL(kThreads, 4) adjacent_pairs(RH_GRID_CONST const PairParameters p) {
  const PairLossArguments& a = p.arguments;
  const Part part = block_part(p);
  const int64_t first = part.block * kBlockPairs + ptx::thread_index();
  const int64_t row0 = part.member * a.rows;
  float loss = 0;
  RH_UNROLL for (int i = 0; i < kThreadPairs; ++i) {
    const int64_t pair = first + i * kThreads;
    if (pair >= a.pairs) break;
    const float d = difference(a, part.member, 2 * pair, 2 * pair + 1);
    const float slope = pair_slope(a, part.member, p.scale, pair, d, loss);
    if (!a.reward_gradient) continue;
    ptx::stg32f(a.reward_gradient + row0 + 2 * pair, 0.0f + slope);  // as a list's, which are added to 0: -0 becomes 0
    ptx::stg32f(a.reward_gradient + row0 + 2 * pair + 1, 0.0f - slope);
  }
  if (a.reward_gradient) {  // rows in no pair
    const int64_t first_row = 2 * a.pairs + part.block * kThreads + ptx::thread_index();
    for (int64_t row = first_row; row < a.rows; row += p.blocks * kThreads) {
      ptx::stg32f(a.reward_gradient + row0 + row, 0.0f);
    }
  }
  finish_loss<kWarps>(p, part, loss, ptx::smem_base());
}

// A block a member.
RH_KERNEL(kThreads, 4) add_block_losses(RH_GRID_CONST const PairParameters p) { add_losses(p, ptx::block_index()); }

// A block a member. Shared memory: {chosen, rejected, slope, -} of each pair, then the block's sums.
RH_KERNEL(kShortThreads, 1) short_list(RH_GRID_CONST const PairParameters p) {
  const PairLossArguments& a = p.arguments;
  const int64_t member = ptx::block_index();
  const uint32_t thread = ptx::thread_index(), shared = ptx::smem_base();
  float loss = 0;
  if (thread < a.pairs) {
    const Pair pair = listed_pair(a, thread);
    float slope = 0;
    if (pair.good) {
      slope = pair_slope(a, member, p.scale, thread, difference(a, member, pair.chosen, pair.rejected), loss);
    } else if (p.bad_pairs) {
      ptx::atomic_or(p.bad_pairs, 1);
    }
    const auto row_word = [&](int64_t row) { return pair.good ? static_cast<uint32_t>(row) : ~0u; };
    ptx::sts128(shared + thread * 16, {row_word(pair.chosen), row_word(pair.rejected), float_bits(slope), 0});
  }
  ptx::syncthreads();
  if (a.reward_gradient) {
    for (int64_t row = thread; row < a.rows; row += kShortThreads) {
      double sum = 0;
      for (int64_t pair = 0; pair < a.pairs; ++pair) {
        const ptx::Word4 entry = ptx::lds128(shared + static_cast<uint32_t>(pair) * 16);
        if (entry.x == static_cast<uint32_t>(row)) sum += bits_float(entry.z);
        if (entry.y == static_cast<uint32_t>(row)) sum -= bits_float(entry.z);
      }
      ptx::stg32f(a.reward_gradient + member * a.rows + row, static_cast<float>(sum));
    }
  }
  finish_loss<kShortThreads / 32>(p, {member, 0}, loss, shared + kShortPairs * 16);
}

// 1 of 4: slopes, and how many entries each row will have, which the first member counts.
RH_KERNEL(kThreads, 4) listed_pairs(RH_GRID_CONST const PairParameters p) {
  const PairLossArguments& a = p.arguments;
  const Part part = block_part(p);
  const int64_t first = part.block * kBlockPairs + ptx::thread_index();
  float loss = 0;
  RH_UNROLL for (int i = 0; i < kThreadPairs; ++i) {
    const int64_t index = first + i * kThreads;
    if (index >= a.pairs) break;
    const Pair pair = listed_pair(a, index);
    if (!pair.good) {
      if (p.bad_pairs) ptx::atomic_or(p.bad_pairs, 1);
      continue;
    }
    const float d = difference(a, part.member, pair.chosen, pair.rejected);
    const float slope = pair_slope(a, part.member, p.scale, index, d, loss);
    if (!a.reward_gradient) continue;
    ptx::stg32f(p.slopes + part.member * a.pairs + index, slope);
    if (part.member > 0) continue;
    ptx::atomic_add(p.counts + pair.chosen, 1);
    ptx::atomic_add(p.counts + pair.rejected, 1);
  }
  finish_loss<kWarps>(p, part, loss, ptx::smem_base());
}

// 2 of 4: a segment of entries for each row. Segments lie in the order in which blocks come by. The losses of members
// are dealt out among the blocks.
RH_KERNEL(kThreads, 4) row_segments(RH_GRID_CONST const PairParameters p) {
  const PairLossArguments& a = p.arguments;
  const uint32_t thread = ptx::thread_index(), shared = ptx::smem_base();
  for (int64_t member = ptx::block_index(); p.blocks > 1 && member < a.members; member += ptx::block_count()) {
    add_losses(p, member);
    ptx::syncthreads();
  }
  const int64_t row = int64_t{ptx::block_index()} * kThreads + thread;
  const uint32_t count = row < a.rows ? ptx::ldg32(p.counts + row) : 0;
  uint32_t before = 0, all = count;  // of the lanes below, and of as many lanes as have been added up
  RH_UNROLL for (uint32_t distance = 1; distance < 32; distance *= 2) {
    const uint32_t other = ptx::shfl_xor(all, static_cast<int>(distance));
    if (thread & distance) before += other;
    all += other;
  }
  if (thread % 32 == 0) ptx::sts32(shared + thread / 32 * 4, all);
  ptx::syncthreads();
  uint32_t block_total = 0;
  for (uint32_t warp = 0; warp < kWarps; ++warp) {
    const uint32_t total = ptx::lds32(shared + warp * 4);
    if (warp < thread / 32) before += total;
    block_total += total;
  }
  if (thread == 0) ptx::sts32(shared + kWarps * 4, ptx::atomic_add(p.counts + a.rows, block_total));
  ptx::syncthreads();
  if (row >= a.rows) return;
  const uint32_t begin = ptx::lds32(shared + kWarps * 4) + before;
  ptx::stg32(p.segments + row, begin);
  ptx::stg32(p.counts + row, begin);  // from here on: the next free entry
}

// 3 of 4: the entries.
RH_KERNEL(kThreads, 4) fill_segments(RH_GRID_CONST const PairParameters p) {
  const int64_t index = int64_t{ptx::block_index()} * kThreads + ptx::thread_index();
  if (index >= p.arguments.pairs) return;
  const Pair pair = listed_pair(p.arguments, index);
  if (!pair.good) return;
  const uint32_t entry = 2 * static_cast<uint32_t>(index);
  ptx::stg32(p.entries + ptx::atomic_add(p.counts + pair.chosen, 1), entry);
  ptx::stg32(p.entries + ptx::atomic_add(p.counts + pair.rejected, 1), entry + 1);
}

// 4 of 4: a warp a row. Its entries in ascending order of their pairs, then for each member each lane's and the lanes'
// sum.
RH_KERNEL(kThreads, 4) gather_segments(RH_GRID_CONST const PairParameters p) {
  const PairLossArguments& a = p.arguments;
  const uint32_t lane = ptx::thread_index() % 32;
  const int64_t row = int64_t{ptx::block_index()} * kWarps + ptx::thread_index() / 32;
  if (row >= a.rows) return;
  const uint32_t begin = ptx::ldg32(p.segments + row), count = ptx::ldg32(p.counts + row) - begin;
  for (uint32_t i = lane; i < count; i += 32) {
    const uint32_t entry = ptx::ldg32(p.entries + begin + i);
    uint32_t rank = 0;
    for (uint32_t j = 0; j < count; ++j) rank += ptx::ldg32(p.entries + begin + j) < entry;
    ptx::stg32(p.ranked + begin + rank, entry);
  }
  ptx::syncwarp();
  for (int64_t member = 0; member < a.members; ++member) {
    double sum = 0;
    for (uint32_t i = lane; i < count; i += 32) {
      const uint32_t entry = ptx::ldg32(p.ranked + begin + i);
      const double slope = ptx::ldg32f(p.slopes + member * a.pairs + entry / 2);
      sum += entry % 2 ? -slope : slope;
    }
    sum = warp_sum(sum);
    if (lane == 0) ptx::stg32f(a.reward_gradient + member * a.rows + row, static_cast<float>(sum));
  }
}

// ---- launchers

bool is_short(int64_t rows, int64_t pairs) { return pairs <= kShortPairs && rows * pairs <= kShortWork; }

// Fewer rows and pairs than planned need no more of anything.
size_t carve(PairParameters& p, void* workspace, int64_t rows, int64_t pairs, int64_t members) {
  Carver carver(workspace);
  p.losses = carver.take<double>(members * ceil_divide(pairs, kBlockPairs));
  p.slopes = carver.take<float>(members * pairs);
  p.counts = carver.take<uint32_t>(rows + 1);
  p.segments = carver.take<uint32_t>(rows);
  p.entries = carver.take<uint32_t>(2 * pairs);
  p.ranked = carver.take<uint32_t>(2 * pairs);
  return carver.bytes();
}

}  // namespace

size_t pair_loss_workspace(int64_t rows, int64_t pairs, int64_t members) {
  PairParameters unused;
  return carve(unused, nullptr, rows, pairs, members);
}

cudaError_t pair_loss(const PairLossArguments& a, uint32_t* bad_pairs, void* workspace, cudaStream_t stream) {
  constexpr int shared = kWarps * 8;
  PairParameters p = {};
  p.arguments = a;
  p.scale = static_cast<float>(1 / a.normalizer);
  p.bad_pairs = bad_pairs;
  carve(p, workspace, a.rows, a.pairs, a.members);
  if (a.chosen && is_short(a.rows, a.pairs)) {
    p.blocks = 1;
    return launch(short_list, {a.members, kShortThreads, kShortPairs * 16 + kShortThreads / 32 * 8}, p, stream);
  }
  p.blocks = ceil_divide(a.pairs, kBlockPairs);
  const LaunchShape pairs_shape = {a.members * p.blocks, kThreads, shared};
  const LaunchShape members_shape = {a.members, kThreads, shared};
  if (!a.chosen) {
    if (const cudaError_t error = launch(adjacent_pairs, pairs_shape, p, stream)) return error;
    return p.blocks > 1 ? launch(add_block_losses, members_shape, p, stream) : cudaSuccess;
  }
  if (a.reward_gradient) {
    const size_t bytes = static_cast<size_t>(a.rows + 1) * sizeof *p.counts;
    if (const cudaError_t error = cudaMemsetAsync(p.counts, 0, bytes, stream)) return error;
  }
  if (const cudaError_t error = launch(listed_pairs, pairs_shape, p, stream)) return error;
  if (!a.reward_gradient) {
    return p.blocks > 1 ? launch(add_block_losses, members_shape, p, stream) : cudaSuccess;
  }
  if (const cudaError_t error = launch(row_segments, {ceil_divide(a.rows, kThreads), kThreads, shared}, p, stream)) {
    return error;
  }
  if (const cudaError_t error = launch(fill_segments, {ceil_divide(a.pairs, kThreads), kThreads}, p, stream)) {
    return error;
  }
  return launch(gather_segments, {ceil_divide(a.rows, kWarps), kThreads}, p, stream);
}

}  // namespace rewardhead::kernels::cuda
