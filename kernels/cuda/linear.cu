// SPDX-License-Identifier: Apache-2.0
//
//   r = X w      dw = dr^T X      dX = dr w^T                               X [rows, input]  w [input]
//
// Two flops an element: bound (prediction) by reading X from memory, once where pairs are rows (2i, 2i + 1), else once
// for r and once for dw: 10 or 20 us for 4,096 x 4,096 bfloat16 at 3.35 TB/s.
//
// r: a warp a row, a lane eight columns of every 256 in ascending order, then the lanes' tree.
// dw: chunks of rows, of which there are at most 256, whatever the device; a chunk adds its rows in ascending order,
// and the chunks are added in ascending order. One pass and two have the same orders, hence the same bits.
// An ensemble: each launch has the blocks of all members. Those of one place in X follow each other, so that all but
// the first find it in L2 (prediction).
//
// One pass: a block a chunk; groups of 8, 4 or 2 rows wait in shared memory, two groups in turn by cp.async. A warp
// takes r of a row from there, a thread the slope of a pair, and each thread adds its columns of the group to sums that
// also lie in shared memory. Budget 99 KB, which every device since sm_80 has: 2 groups rows + sums = 4 x 4,096 x 2 x 2
// + 4,096 x 4 = 80 KB at input 4,096. Rows that are not aligned to 16 bytes, or too long for groups of two (input
// above 8,448 in 16 bits, 5,064 in fp32), go the way of lists.
#include <algorithm>

#include "kernels/cuda/elements.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/pair_slope.h"
#include "kernels/workspace.h"

namespace rewardhead::kernels::cuda {
namespace {

// ---- kernels

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kMaxGroup = kWarps;      // rows: a warp each
constexpr int64_t kChunks = 256;       // at most
constexpr int64_t kColumns = 32;       // of a block that adds chunks,
constexpr int kSlices = kThreads / 32;  // each of whose warps takes a slice of them
constexpr int kSharedBudget = 99 << 10;

// Rows of a chunk: whole groups, so that no pair is split.
constexpr int64_t chunk_rows(int64_t rows) { return round_up(ceil_divide(rows, kChunks), kMaxGroup); }
constexpr int64_t chunk_count(int64_t rows) { return ceil_divide(rows, chunk_rows(rows)); }

struct LinearParameters {
  const void* x;
  int64_t rows, input, stride;
  bool aligned;  // every row of X, to 16 bytes
  uint32_t members;
  const float* w;                // [members, input]
  float* rewards;                // [members, rows]
  const float* reward_gradient;  // [members, rows]
  float* sums;                   // [members, chunks, input]
  int64_t chunk_rows, chunks;
  float* gradient;  // [members, input]
  float* input_gradient;
  int64_t input_gradient_stride;
  // Of one pass.
  PairLossArguments pairs;
  float scale;  // 1 / normalizer
  int group;    // rows
};

// Which block of which member this is.
struct Part {
  uint32_t member, block;
};
RH_DEVICE Part block_part(uint32_t members) { return {ptx::block_index() % members, ptx::block_index() / members}; }

// In every lane. x(k) gives a row's columns k to k + 7, zeros past the last.
template <class Columns>
RH_DEVICE float row_reward(const LinearParameters& p, uint32_t member, const Columns& x) {
  const float* const w = p.w + member * p.input;
  const bool w_aligned = is_aligned16(w);
  float sum = 0;
  for (int64_t k = ptx::thread_index() % 32 * 8; k < p.input; k += 256) {
    const Eight features = x(k), weights = load_eight(w + k, p.input - k, w_aligned);
    RH_UNROLL for (int i = 0; i < 8; ++i) sum = fmaf(features.v[i], weights.v[i], sum);
  }
  return warp_sum(sum);
}

template <class Element>
RH_KERNEL(kThreads, 6) linear_rewards(RH_GRID_CONST const LinearParameters p) {
  const auto [member, block] = block_part(p.members);
  const int64_t row = int64_t{block} * kWarps + ptx::thread_index() / 32;
  if (row >= p.rows) return;
  const Element* const x = static_cast<const Element*>(p.x) + row * p.stride;
  const float reward = row_reward(p, member, [&](int64_t k) { return load_eight(x + k, p.input - k, p.aligned); });
  if (ptx::thread_index() % 32 == 0) ptx::stg32f(p.rewards + member * p.rows + row, reward);
}

// A thread's eight columns of one chunk; blocks of 2,048 columns lie within chunks.
template <class Element>
RH_KERNEL(kThreads, 3) linear_gradient(RH_GRID_CONST const LinearParameters p) {
  const auto [member, block] = block_part(p.members);
  const int64_t column_blocks = (p.input + kThreads * 8 - 1) / (kThreads * 8);
  const int64_t chunk = block / column_blocks;
  const int64_t k = (block % column_blocks * kThreads + ptx::thread_index()) * 8;
  if (k >= p.input) return;
  const int64_t begin = chunk * p.chunk_rows, end = begin + p.chunk_rows < p.rows ? begin + p.chunk_rows : p.rows;
  const Element* const x = static_cast<const Element*>(p.x) + k;
  Eight sum = {};
#pragma unroll 4
  for (int64_t row = begin; row < end; ++row) {
    const Eight features = load_eight(x + row * p.stride, p.input - k, p.aligned);
    const float slope = ptx::ldg32f(p.reward_gradient + member * p.rows + row);
    RH_UNROLL for (int i = 0; i < 8; ++i) sum.v[i] = fmaf(slope, features.v[i], sum.v[i]);
  }
  float* const to = p.sums + (member * p.chunks + chunk) * p.input + k;
  RH_UNROLL for (int i = 0; i < 8; ++i) if (k + i < p.input) ptx::stg32f(to + i, sum.v[i]);
}

// r and the chunks' sums in one pass. Shared memory: two groups of rows of `pitch` bytes, then sums of all columns, the
// first four of every eight columns before the others, then the group's rewards and slopes.
template <class Element>
RH_KERNEL(kThreads, 1) linear_one_pass(RH_GRID_CONST const LinearParameters p) {
  const uint32_t thread = ptx::thread_index(), warp = thread / 32, shared = ptx::smem_base();
  const int columns = static_cast<int>((p.input + 7) / 8) * 8, group = p.group;
  const int pitch = columns * static_cast<int>(sizeof(Element));
  const int row_bytes = static_cast<int>(p.input * sizeof(Element));
  const uint32_t sums = shared + 2 * group * pitch, rewards = sums + columns * 4, slopes = rewards + kMaxGroup * 4;
  const auto [member, chunk] = block_part(p.members);
  const int64_t begin = int64_t{chunk} * p.chunk_rows;
  const int64_t end = begin + p.chunk_rows < p.rows ? begin + p.chunk_rows : p.rows;

  const auto copy_group = [&](int64_t first, uint32_t to) {
    for (int row = 0; row < group; ++row) {
      const char* const from = static_cast<const char*>(p.x) + (first + row) * p.stride * int64_t{sizeof(Element)};
      for (int byte = static_cast<int>(thread) * 16; byte < pitch; byte += kThreads * 16) {
        const int left = first + row < end ? row_bytes - byte : 0;
        ptx::cp_async16(to + row * pitch + byte, from + byte, left >= 16 ? 16 : left > 0 ? left : 0);
      }
    }
  };

  const auto load_sums = [&](int k) {
    const ptx::Float4 a = ptx::lds128f(sums + k * 2), b = ptx::lds128f(sums + columns * 2 + k * 2);
    return Eight{{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
  };
  const auto store_sums = [&](int k, const Eight& sum) {
    ptx::sts128f(sums + k * 2, {sum.v[0], sum.v[1], sum.v[2], sum.v[3]});
    ptx::sts128f(sums + columns * 2 + k * 2, {sum.v[4], sum.v[5], sum.v[6], sum.v[7]});
  };

  copy_group(begin, shared);
  ptx::cp_async_commit();
  for (int k = static_cast<int>(thread) * 8; k < columns; k += kThreads * 8) store_sums(k, {});  // its own columns'
  uint32_t here = 0;
  for (int64_t first = begin; first < end; first += group, here ^= 1) {
    const uint32_t features = shared + here * group * pitch;
    ptx::cp_async_wait<0>();
    ptx::syncthreads();  // the group has arrived for everyone, and everyone has left the one before
    if (first + group < end) copy_group(first + group, shared + (here ^ 1) * group * pitch);
    ptx::cp_async_commit();

    if (static_cast<int>(warp) < group && first + warp < end) {
      const uint32_t row = features + warp * pitch;
      const float reward = row_reward(p, member, [&](int64_t k) {
        return Storage<Element>::load_eight_shared(row + static_cast<uint32_t>(k * int64_t{sizeof(Element)}));
      });
      if (thread % 32 == 0) {
        ptx::stg32f(p.rewards + member * p.rows + first + warp, reward);
        ptx::sts32f(rewards + warp * 4, reward);
      }
    }
    ptx::syncthreads();
    if (static_cast<int>(2 * thread) < group) {
      const int64_t pair = first / 2 + thread;
      float slope = 0, loss = 0;
      if (pair < p.pairs.pairs) {
        const float d = ptx::lds32f(rewards + thread * 8) - ptx::lds32f(rewards + thread * 8 + 4);
        slope = pair_slope(p.pairs, member, p.scale, pair, d, loss);
      }
      ptx::sts64f(slopes + thread * 8, 0.0f + slope, 0.0f - slope);
    }
    ptx::syncthreads();
    const int rows = end - first < group ? static_cast<int>(end - first) : group;
    for (int k = static_cast<int>(thread) * 8; k < columns; k += kThreads * 8) {
      Eight sum = load_sums(k);
      for (int row = 0; row < rows; ++row) {
        const Eight x = Storage<Element>::load_eight_shared(features + row * pitch + k * int{sizeof(Element)});
        const float slope = ptx::lds32f(slopes + row * 4);
        RH_UNROLL for (int i = 0; i < 8; ++i) sum.v[i] = fmaf(slope, x.v[i], sum.v[i]);
      }
      store_sums(k, sum);
    }
  }
  float* const to = p.sums + (member * p.chunks + chunk) * p.input;
  for (int k = static_cast<int>(thread) * 8; k < columns; k += kThreads * 8) {
    const Eight sum = load_sums(k);
    RH_UNROLL for (int i = 0; i < 8; ++i) if (k + i < p.input) ptx::stg32f(to + k + i, sum.v[i]);
  }
}

// dw from the chunks' sums: a lane a column, a warp a slice of the chunks.
RH_KERNEL(kThreads, 4) add_chunks(RH_GRID_CONST const LinearParameters p) {
  const uint32_t lane = ptx::thread_index() % 32, slice = ptx::thread_index() / 32, shared = ptx::smem_base();
  const auto [member, block] = block_part(p.members);
  const int64_t k = int64_t{block} * kColumns + lane;
  const float* const sums = p.sums + member * p.chunks * p.input + k;
  const int64_t begin = p.chunks * slice / kSlices, end = p.chunks * (slice + 1) / kSlices;
  float sum = 0;
  for (int64_t chunk = begin; chunk < end && k < p.input; ++chunk) sum += ptx::ldg32f(sums + chunk * p.input);
  ptx::sts32f(shared + ptx::thread_index() * 4, sum);
  ptx::syncthreads();
  if (slice != 0 || k >= p.input) return;
  for (uint32_t other = 1; other < kSlices; ++other) sum += ptx::lds32f(shared + (other * 32 + lane) * 4);
  ptx::stg32f(p.gradient + member * p.input + k, sum);
}

// A warp a row, of the only member.
RH_KERNEL(kThreads, 4) linear_input_gradient(RH_GRID_CONST const LinearParameters p) {
  const int64_t row = int64_t{ptx::block_index()} * kWarps + ptx::thread_index() / 32;
  if (row >= p.rows) return;
  const float slope = ptx::ldg32f(p.reward_gradient + row);
  float* const to = p.input_gradient + row * p.input_gradient_stride;
  for (int64_t k = ptx::thread_index() % 32; k < p.input; k += 32) ptx::stg32f(to + k, slope * ptx::ldg32f(p.w + k));
}

// ---- launchers

LinearParameters linear_parameters(const Matrix& x, const float* w, int64_t members) {
  LinearParameters p = {};
  p.x = x.data;
  p.rows = x.rows;
  p.input = x.columns;
  p.stride = x.stride;
  with_element(x.dtype, [&](auto* element) {
    p.aligned = has_aligned_rows<std::remove_cvref_t<decltype(*element)>>(x.data, x.stride);
  });
  p.members = static_cast<uint32_t>(members);
  p.w = w;
  p.chunk_rows = chunk_rows(x.rows);
  p.chunks = chunk_count(x.rows);
  return p;
}

// Fewer rows may make more chunks than the most rows do, never more than these.
size_t carve(LinearParameters& p, void* workspace, int64_t rows, int64_t input, int64_t members) {
  Carver carver(workspace);
  p.sums = carver.take<float>(members * std::min(kChunks, ceil_divide(rows, kMaxGroup)) * input);
  return carver.bytes();
}

template <class Element>
int one_pass_bytes(int64_t input, int group) {
  const int64_t columns = round_up(input, 8);
  const int64_t bytes = columns * (2 * group * int64_t{sizeof(Element)} + 4) + 2 * kMaxGroup * 4;
  return bytes <= kSharedBudget ? static_cast<int>(bytes) : 0;
}

cudaError_t finish_gradient(const LinearParameters& p, cudaStream_t stream) {
  return launch(add_chunks, {p.members * ceil_divide(p.input, kColumns), kThreads, kThreads * 4}, p, stream);
}

cudaError_t input_gradient(LinearParameters p, const BackwardArguments& a, cudaStream_t stream) {
  if (!a.input_gradient) return cudaSuccess;
  p.reward_gradient = a.reward_gradient;
  p.input_gradient = a.input_gradient;
  p.input_gradient_stride = a.input_gradient_stride;
  return launch(linear_input_gradient, {ceil_divide(p.rows, kWarps), kThreads}, p, stream);
}

}  // namespace

cudaError_t linear_forward(const ForwardArguments& a, cudaStream_t stream) {
  LinearParameters p = linear_parameters(a.x, a.head.w1, a.members);
  p.rewards = a.rewards;
  return with_element(a.x.dtype, [&](auto* element) {
    using Element = std::remove_cvref_t<decltype(*element)>;
    return launch(linear_rewards<Element>, {p.members * ceil_divide(p.rows, kWarps), kThreads}, p, stream);
  });
}

size_t linear_workspace(int64_t rows, int64_t input, int64_t members) {
  LinearParameters unused = {};
  return carve(unused, nullptr, rows, input, members);
}

cudaError_t linear_backward(const BackwardArguments& a, void* workspace, cudaStream_t stream) {
  LinearParameters p = linear_parameters(a.x, a.head.w1, a.members);
  carve(p, workspace, p.rows, p.input, a.members);
  p.reward_gradient = a.reward_gradient;
  p.gradient = a.gradient.w1;
  const int64_t blocks = p.members * p.chunks * ceil_divide(p.input, kThreads * 8);
  const cudaError_t error = with_element(a.x.dtype, [&](auto* element) {
    using Element = std::remove_cvref_t<decltype(*element)>;
    return launch(linear_gradient<Element>, {blocks, kThreads}, p, stream);
  });
  if (error) return error;
  if (const cudaError_t failed = finish_gradient(p, stream)) return failed;
  return input_gradient(p, a, stream);
}

size_t linear_step_workspace(int64_t rows, int64_t input, int64_t pairs, int64_t members) {
  return linear_workspace(rows, input, members) + pair_loss_workspace(rows, pairs, members);
}

cudaError_t linear_step(const ForwardArguments& forward, const PairLossArguments& pairs,
                        const BackwardArguments& backward, void* workspace, cudaStream_t stream) {
  LinearParameters p = linear_parameters(forward.x, forward.head.w1, forward.members);
  void* const pair_workspace = static_cast<char*>(workspace) + carve(p, workspace, p.rows, p.input, forward.members);
  p.rewards = forward.rewards;
  p.pairs = pairs;
  p.scale = static_cast<float>(1 / pairs.normalizer);
  p.gradient = backward.gradient.w1;
  int bytes = 0;
  const cudaError_t error = with_element(forward.x.dtype, [&](auto* element) {
    using Element = std::remove_cvref_t<decltype(*element)>;
    for (p.group = kMaxGroup; p.aligned && p.group >= 2; p.group /= 2) {
      bytes = one_pass_bytes<Element>(p.input, p.group);
      if (bytes) return launch(linear_one_pass<Element>, {p.members * p.chunks, kThreads, bytes}, p, stream);
    }
    return linear_forward(forward, stream);
  });
  if (error) return error;
  if (const cudaError_t failed = pair_loss(pairs, nullptr, pair_workspace, stream)) return failed;
  if (!bytes) return linear_backward(backward, workspace, stream);
  if (const cudaError_t failed = finish_gradient(p, stream)) return failed;
  return input_gradient(p, backward, stream);
}

}  // namespace rewardhead::kernels::cuda
