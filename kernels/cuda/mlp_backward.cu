// SPDX-License-Identifier: Apache-2.0
//
//   G = (mask . dr)^T X      g = sum_rows mask . dr                         X [rows, input]  W1 [members * hidden, input]
//   dW1 = diag(w2) G   db1 = w2 g   dw2[h] = <W1[h], G[h]> + b1[h] g[h]   db2 = sum dr      dX = diag(dr) mask (diag(w2) W1)
//
// 1. X, dr, and for dX also W1 and w2, to 16-bit planes (planes.h).
// 2. The masked product over the rows of X (products.h), which leaves dW1, g and parts of <W1, G>; a kernel of
//    one thread a unit makes db1 and dw2 of them.
// 3. Where tiles are few, the sum over rows is split: step 2 leaves parts of G and g, and a block a unit adds them in
//    ascending order and has dW1, db1 and dw2 at once.
// 4. db2; and dX by the masked product over hidden units, in which a block adds its tile's members in ascending order.
//
// Bounds (predictions): the products the tensor cores; the finishing kernels memory, 4 B a part and element of G.
#include "kernels/cuda/mlp.h"
#include "kernels/cuda/products.h"

namespace rewardhead::kernels::cuda {
namespace {

// ---- kernels

constexpr int kThreads = 256, kWarps = kThreads / 32;

struct UnitParameters {
  const float* b1;        // [members, hidden]
  const float* w1;        // [members, hidden, input]
  const float* w2;        // [members, hidden]
  const float* g;         // [splits, units]
  const float* unscale;   // [members]
  const float* dot_part;  // [dot_parts, units]
  const float* parts;     // [splits, units, part_stride]
  float* dw1;
  float* db1;
  float* dw2;
  int64_t members, hidden, input, padded_hidden, units, part_stride;
  int dot_parts, splits;
};

// Of the `index`-th hidden unit of all members: its place among the padded ones.
RH_DEVICE int64_t padded_unit(const UnitParameters& p, int64_t index) {
  return index / p.hidden * p.padded_hidden + index % p.hidden;
}

RH_KERNEL(kThreads, 4) finish_units(RH_GRID_CONST const UnitParameters p) {
  const int64_t index = int64_t{ptx::block_index()} * kThreads + ptx::thread_index();
  if (index >= p.members * p.hidden) return;
  const int64_t unit = padded_unit(p, index);
  const float unscale = ptx::ldg32f(p.unscale + index / p.hidden);
  float dot = 0;
  for (int part = 0; part < p.dot_parts; ++part) dot += ptx::ldg32f(p.dot_part + part * p.units + unit);
  const float g = unscale * ptx::ldg32f(p.g + unit);
  ptx::stg32f(p.db1 + index, ptx::ldg32f(p.w2 + index) * g);
  ptx::stg32f(p.dw2 + index, fmaf(ptx::ldg32f(p.b1 + index), g, unscale * dot));
}

// A block a unit.
RH_KERNEL(kThreads, 4) add_unit_parts(RH_GRID_CONST const UnitParameters p) {
  const int64_t index = ptx::block_index(), unit = padded_unit(p, index);
  const float unscale = ptx::ldg32f(p.unscale + index / p.hidden), w2 = ptx::ldg32f(p.w2 + index);
  float dot = 0;
  for (int64_t k = ptx::thread_index(); k < p.input; k += kThreads) {
    float sum = 0;
    for (int split = 0; split < p.splits; ++split) {
      sum += ptx::ldg32f(p.parts + (split * p.units + unit) * p.part_stride + k);
    }
    sum *= unscale;
    dot = fmaf(sum, ptx::ldg32f(p.w1 + index * p.input + k), dot);
    ptx::stg32f(p.dw1 + index * p.input + k, w2 * sum);
  }
  const double all = block_sum<kWarps>(dot, ptx::smem_base());
  if (ptx::thread_index() != 0) return;
  float g = 0;
  for (int split = 0; split < p.splits; ++split) g += ptx::ldg32f(p.g + split * p.units + unit);
  g *= unscale;
  ptx::stg32f(p.db1 + index, w2 * g);
  ptx::stg32f(p.dw2 + index, fmaf(ptx::ldg32f(p.b1 + index), g, static_cast<float>(all)));
}

struct SumParameters {
  const float* reward_gradient;  // [members, rows]
  float* db2;                    // [members]
  int64_t rows;
};

// A block a member.
RH_KERNEL(kThreads, 4) sum_reward_gradient(RH_GRID_CONST const SumParameters p) {
  const float* const from = p.reward_gradient + ptx::block_index() * p.rows;
  double sum = 0;
  for (int64_t row = ptx::thread_index(); row < p.rows; row += kThreads) sum += ptx::ldg32f(from + row);
  sum = block_sum<kWarps>(sum, ptx::smem_base());
  if (ptx::thread_index() == 0) ptx::stg32f(p.db2 + ptx::block_index(), static_cast<float>(sum));
}

// ---- launchers

const ProductTile& masked_tile(const MlpPlan& plan) { return plan.wgmma ? sm90::kMaskedTile : sm80::kMaskedTile; }
int64_t dot_parts(const MlpPlan& plan) {
  return (plan.wgmma ? sm90::kDotParts : sm80::kDotParts) * ceil_divide(plan.input, masked_tile(plan).columns);
}

SplitSum sum_over_rows(const MlpPlan& plan) {
  const ProductTile& tile = masked_tile(plan);
  const MlpUnits units(plan);
  return {ceil_divide(units.units, tile.rows) * ceil_divide(plan.input, tile.columns),
          x_planes(plan) * ceil_divide(plan.rows, tile.step), tile.step_us * plan.planes, units.units * plan.input, 64};
}

struct BackwardScratch {
  MlpOperands operands;
  uint16_t* dr;       // [members][planes][rows up to 64]
  float* dr_unscale;  // [members]
  uint16_t* w2;       // [members][planes][padded hidden]
  float* w2_unscale;  // [members]
  float* g;           // [splits, units]
  float* dot_part;    // [dot_parts, units]
  float* parts;       // [splits, units, input up to whole tiles], null where the sum is not split
  int splits;
  size_t bytes;

  static BackwardScratch carve(void* workspace, const MlpPlan& plan) {
    const ProductTile& tile = masked_tile(plan);
    const MlpUnits units(plan);
    const int64_t tiles_n = ceil_divide(plan.input, tile.columns);
    BackwardScratch scratch = {};
    scratch.splits = w1_splits(plan);
    Carver carver(workspace);
    scratch.operands = MlpOperands::carve(carver, plan);
    scratch.dr = carver.take<uint16_t>(plan.members * plan.planes * round_up(plan.rows, 64));
    scratch.dr_unscale = carver.take<float>(plan.members);
    scratch.w2 = carver.take<uint16_t>(plan.planes * units.units);
    scratch.w2_unscale = carver.take<float>(plan.members);
    scratch.g = carver.take<float>(scratch.splits * units.units);
    scratch.dot_part = carver.take<float>(dot_parts(plan) * units.units);
    scratch.parts = carver.take<float>(scratch.splits > 1 ? scratch.splits * units.units * tiles_n * tile.columns : 0);
    if (scratch.splits == 1) scratch.parts = nullptr;
    scratch.bytes = carver.bytes();
    return scratch;
  }
};

bool has_aligned_pairs(const float* data, int64_t stride) {
  return reinterpret_cast<uintptr_t>(data) % 8 == 0 && stride % 2 == 0;
}

// What both products share.
MaskedProduct masked_product(const MlpPlan& plan, const BackwardArguments& a) {
  MaskedProduct product = {};
  product.half = is_half(plan);
  product.mask = reinterpret_cast<const uint32_t*>(a.mask);
  product.mask_row_blocks = static_cast<int>(mask_row_blocks(a.x.rows));
  product.members = 1;
  product.v_planes = plan.planes;
  product.splits = 1;
  product.output.columns = static_cast<int>(plan.input);
  return product;
}

cudaError_t launch_product(const MlpPlan& plan, const MaskedProduct& product, cudaStream_t stream) {
  return plan.wgmma ? sm90::masked_product(product, plan.multiprocessors, stream)
                    : sm80::masked_product(product, stream);
}

cudaError_t parameter_gradients(const MlpPlan& plan, const BackwardArguments& a, const BackwardScratch& scratch,
                                cudaStream_t stream) {
  const MlpUnits units(plan);
  MaskedProduct product = masked_product(plan, a);
  if (const cudaError_t error = scratch.operands.fill_x(plan, a.x, product.b, stream)) return error;
  const int64_t padded_rows = round_up(a.x.rows, 64);
  const SplitVector dr = {a.reward_gradient, plan.members, a.x.rows,     padded_rows, scratch.dr, scratch.dr_unscale,
                          plan.planes,       is_half(plan)};
  if (const cudaError_t error = split_vector(dr, stream)) return error;

  product.rows_are_units = true;
  product.v = scratch.dr;
  product.v_stride = padded_rows;
  product.splits = scratch.splits;
  MaskedOutput& output = product.output;
  output.rows = static_cast<int>(units.units);
  output.out = a.gradient.w1;
  output.out_stride = plan.input;
  output.vectors = has_aligned_pairs(a.gradient.w1, plan.input);
  output.unscale = scratch.dr_unscale;
  output.w1 = a.head.w1;
  output.w2 = a.head.w2;
  output.hidden = static_cast<int>(plan.hidden);
  output.member_blocks = static_cast<int>(units.member_blocks);
  output.dot_part = scratch.dot_part;
  output.g = scratch.g;
  output.parts = scratch.parts;
  output.part_stride = round_up(plan.input, masked_tile(plan).columns);
  if (const cudaError_t error = launch_product(plan, product, stream)) return error;

  const UnitParameters finish = {a.head.b1,
                                 a.head.w1,
                                 a.head.w2,
                                 scratch.g,
                                 scratch.dr_unscale,
                                 scratch.dot_part,
                                 scratch.parts,
                                 a.gradient.w1,
                                 a.gradient.b1,
                                 a.gradient.w2,
                                 plan.members,
                                 plan.hidden,
                                 plan.input,
                                 units.padded_hidden,
                                 units.units,
                                 output.part_stride,
                                 static_cast<int>(dot_parts(plan)),
                                 scratch.splits};
  const int64_t all_units = plan.members * plan.hidden;
  const cudaError_t error =
      scratch.parts ? launch(add_unit_parts, {all_units, kThreads, kWarps * 8}, finish, stream)
                    : launch(finish_units, {ceil_divide(all_units, kThreads), kThreads}, finish, stream);
  if (error) return error;
  return sum_rows(a.reward_gradient, plan.members, a.x.rows, a.gradient.b2, stream);
}

cudaError_t input_gradient(const MlpPlan& plan, const BackwardArguments& a, const BackwardScratch& scratch,
                           cudaStream_t stream) {
  const MlpUnits units(plan);
  Planes w1;
  if (const cudaError_t error = scratch.operands.fill_w1(plan, a.head.w1, w1, stream)) return error;
  const SplitVector w2 = {a.head.w2,          plan.members, plan.hidden, units.padded_hidden, scratch.w2,
                          scratch.w2_unscale, plan.planes,  is_half(plan)};
  if (const cudaError_t error = split_vector(w2, stream)) return error;

  MaskedProduct product = masked_product(plan, a);
  product.members = static_cast<int>(plan.members);
  product.b = w1;
  product.v = scratch.w2;
  product.v_stride = units.padded_hidden;
  MaskedOutput& output = product.output;
  output.rows = static_cast<int>(a.x.rows);
  output.unscale = scratch.w2_unscale;
  output.row_scale = a.reward_gradient;
  output.out = a.input_gradient;
  output.out_stride = a.input_gradient_stride;
  output.vectors = has_aligned_pairs(a.input_gradient, a.input_gradient_stride);
  return launch_product(plan, product, stream);
}

}  // namespace

int w1_splits(const MlpPlan& plan) {
  return plan.w1_splits ? plan.w1_splits : choose_split(sum_over_rows(plan), plan.multiprocessors);
}
int most_w1_splits(const MlpPlan& plan) { return most_splits(sum_over_rows(plan)); }

cudaError_t sum_rows(const float* reward_gradient, int64_t members, int64_t rows, float* db2, cudaStream_t stream) {
  const SumParameters sum = {reward_gradient, db2, rows};
  return launch(sum_reward_gradient, {members, kThreads, kWarps * 8}, sum, stream);
}

size_t mlp_backward_workspace(const MlpPlan& plan) { return BackwardScratch::carve(nullptr, plan).bytes; }

cudaError_t mlp_backward(const MlpPlan& plan, const BackwardArguments& a, void* workspace, cudaStream_t stream) {
  const BackwardScratch scratch = BackwardScratch::carve(workspace, plan);
  if (const cudaError_t error = parameter_gradients(plan, a, scratch, stream)) return error;
  return a.input_gradient ? input_gradient(plan, a, scratch, stream) : cudaSuccess;
}

}  // namespace rewardhead::kernels::cuda
