// SPDX-License-Identifier: Apache-2.0
//
//   z = X W1^T + b1      r = relu(z) w2 + b2      mask = !(z <= 0)          X [rows, input]  W1 [members * hidden, input]
//
// 1. X and W1 to 16-bit planes (planes.h), X only where it is not an operand as it lies.
// 2. The matrix product, whose epilogue leaves a partial reward for each row and 64 units, and the mask: z is nowhere.
// 3. Where tiles are few, the sum over columns is split: step 2 leaves parts of z, which forward_finish adds in
//    ascending order before the same epilogue.
// 4. Rewards: partial rewards in ascending order, and b2.
//
// An ensemble is one product with all members' units; each begins at a multiple of 64, so that no block has two.
//
// Bounds (predictions): step 2 the tensor cores; the others memory: 6 to 10 B an element of W1, 8 B a part and element
// of z, 4 B a row and 64 units.
#include "kernels/cuda/mlp.h"
#include "kernels/cuda/products.h"

namespace rewardhead::kernels::cuda {
namespace {

// ---- kernels

constexpr int kThreads = 256, kWarps = kThreads / 32;

// A warp a block of 16 rows x 64 units.
RH_KERNEL(kThreads, 2) forward_finish(RH_GRID_CONST const ForwardResult p) {
  const int row_blocks = (p.output.rows + 15) / 16;
  const int block = static_cast<int>(ptx::block_index() * kWarps + ptx::thread_index() / 32);
  if (block >= row_blocks * p.output.unit_blocks) return;
  const int unit_block = block % p.output.unit_blocks, row0 = block / p.output.unit_blocks * 16;
  const int lane = static_cast<int>(ptx::thread_index() % 32);
  float z[1][8][4] = {};
  for (int split = 0; split < p.splits; ++split) {
    RH_UNROLL for (int half = 0; half < 2; ++half) {
      const int row = row0 + 8 * half + lane / 4;
      if (row >= p.output.rows) continue;
      const float* const from = z_row(p, split, row, unit_block);
      RH_UNROLL for (int j = 0; j < 8; ++j) {
        const uint64_t pair = ptx::ldg64(from + 8 * j);
        z[0][j][2 * half] += bits_float(static_cast<uint32_t>(pair));
        z[0][j][2 * half + 1] += bits_float(static_cast<uint32_t>(pair >> 32));
      }
    }
  }
  finish_block(p.output, z, row0, unit_block);
}

struct RewardParameters {
  const float* r_part;  // [members][blocks][rows]
  const float* b2;      // [members]
  float* rewards;       // [members, rows]
  int64_t members, rows, blocks;
};

RH_KERNEL(kThreads, 4) add_partial_rewards(RH_GRID_CONST const RewardParameters p) {
  const int64_t index = int64_t{ptx::block_index()} * kThreads + ptx::thread_index();
  if (index >= p.members * p.rows) return;
  const int64_t member = index / p.rows, row = index % p.rows;
  const float* const parts = p.r_part + member * p.blocks * p.rows + row;
  float sum = 0;
  for (int64_t block = 0; block < p.blocks; ++block) sum += ptx::ldg32f(parts + block * p.rows);
  ptx::stg32f(p.rewards + index, sum + ptx::ldg32f(p.b2 + member));
}

// ---- launchers

SplitSum sum_over_columns(const MlpPlan& plan) {
  const ProductTile& tile = plan.wgmma ? sm90::kForwardTile : sm80::kForwardTile;
  const MlpUnits units(plan);
  return {ceil_divide(plan.rows, tile.rows) * ceil_divide(units.units, tile.columns),
          passes_of(x_planes(plan), plan.planes).count * ceil_divide(plan.input, tile.step), tile.step_us,
          plan.rows * units.units, 8};
}

struct ForwardScratch {
  MlpOperands operands;
  float* r_part;  // [unit blocks, rows]
  float* z;       // [splits, rows, units], null where the sum is not split
  int splits;
  size_t bytes;

  static ForwardScratch carve(void* workspace, const MlpPlan& plan) {
    const MlpUnits units(plan);
    ForwardScratch scratch = {};
    scratch.splits = forward_splits(plan);
    Carver carver(workspace);
    scratch.operands = MlpOperands::carve(carver, plan);
    scratch.r_part = carver.take<float>(units.blocks * plan.rows);
    scratch.z = carver.take<float>(scratch.splits > 1 ? scratch.splits * plan.rows * units.units : 0);
    if (scratch.splits == 1) scratch.z = nullptr;
    scratch.bytes = carver.bytes();
    return scratch;
  }
};

}  // namespace

int forward_splits(const MlpPlan& plan) {
  return plan.forward_splits ? plan.forward_splits : choose_split(sum_over_columns(plan), plan.multiprocessors);
}
int most_forward_splits(const MlpPlan& plan) { return most_splits(sum_over_columns(plan)); }

size_t mlp_mask_bytes(const MlpPlan& plan) {
  return static_cast<size_t>(round_up(MlpUnits(plan).blocks, 4) * mask_row_blocks(plan.rows) * kMaskBlockBytes);
}

size_t mlp_forward_workspace(const MlpPlan& plan) { return ForwardScratch::carve(nullptr, plan).bytes; }

cudaError_t mlp_forward(const MlpPlan& plan, const ForwardArguments& a, void* workspace, cudaStream_t stream) {
  const ForwardScratch scratch = ForwardScratch::carve(workspace, plan);
  const MlpUnits units(plan);
  const int rows = static_cast<int>(a.x.rows);
  ForwardProduct product = {};
  if (const cudaError_t error = scratch.operands.fill_x(plan, a.x, product.x, stream)) return error;
  if (const cudaError_t error = scratch.operands.fill_w1(plan, a.head.w1, product.w1, stream)) return error;
  product.half = is_half(plan);
  product.splits = scratch.splits;
  product.z = scratch.z;
  HeadOutput& output = product.output;
  output.b1 = a.head.b1;
  output.w2 = a.head.w2;
  output.r_part = scratch.r_part;
  output.mask = reinterpret_cast<uint32_t*>(a.mask);
  output.rows = rows;
  output.hidden = static_cast<int>(plan.hidden);
  output.member_blocks = static_cast<int>(units.member_blocks);
  output.unit_blocks = static_cast<int>(units.blocks);
  output.mask_row_blocks = static_cast<int>(mask_row_blocks(a.x.rows));
  const cudaError_t error = plan.wgmma ? sm90::forward_product(product, plan.multiprocessors, stream)
                                       : sm80::forward_product(product, stream);
  if (error) return error;
  if (scratch.z) {
    const int64_t blocks = ceil_divide(rows, 16) * units.blocks;
    const LaunchShape shape = {ceil_divide(blocks, kWarps), kThreads};
    if (const cudaError_t failed = launch<ForwardResult>(forward_finish, shape, product, stream)) return failed;
  }
  const RewardParameters rewards = {scratch.r_part, a.head.b2, a.rewards, plan.members, a.x.rows, units.member_blocks};
  return launch(add_partial_rewards, {ceil_divide(plan.members * a.x.rows, kThreads), kThreads}, rewards, stream);
}

}  // namespace rewardhead::kernels::cuda
