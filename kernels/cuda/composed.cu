// SPDX-License-Identifier: Apache-2.0
//
// The MLP head composed of cuBLASLt's matrix products, for devices without a tuned path, for doubt, and for comparison:
//
//   Z = X W1^T                r = relu(Z + b1) w2 + b2             dH = diag(dr) mask diag(w2), mask = !(Z + b1 <= 0)
//   dW1 = dH^T X   db1 = column sums of dH   dw2[h] = sum dr relu(Z + b1)[., h]   db2 = sum dr          dX = dH W1
//
// 1. X and W1 to planes of bfloat16 (planes.h). A product is one call of cuBLASLt for each pair of planes, smallest
//    first, each adding to the one before: operands, exact products, fp32 sums and so the error are as in sm80/ and
//    sm90/. fp32 operands would be exact but leave the tensor cores, tf32's would lose 5 bits.
// 2. Rewards: a kernel that reads Z once. It also adds b1 and applies ReLU: as an epilogue these would save nothing,
//    since Z must go to memory for the backward anyway, and cuBLASLt does not say what its ReLU makes of a NaN.
// 3. Backward: a kernel reads Z and writes dH in planes and, by 256 rows, parts of db1 and dw2, which another adds in
//    ascending order. Then dW1 and dX straight into the caller's memory. Members' units lie side by side, so that all
//    members are one product, and dX is their sum.
//
// Bounds (predictions): the products the tensor cores, and 8 B a pass after the first for each element of an output;
// the kernels memory, 4 B and 4 + 2 planes B an element of Z.
#include "kernels/cuda/mlp.h"

namespace rewardhead::kernels::cuda {
namespace {

// ---- kernels

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kChunkRows = 256, kChunkUnits = 64;

struct HiddenUnits {
  const float* z;   // [rows][z_stride], a row has the units of all members
  const float* b1;  // [members, hidden]
  const float* w2;  // [members, hidden]
  int64_t members, rows, hidden, z_stride;
};

struct RewardParameters {
  HiddenUnits u;
  const float* b2;  // [members]
  float* rewards;   // [members, rows]
};

// A warp a row and member.
RH_KERNEL(kThreads, 4) composed_rewards(RH_GRID_CONST const RewardParameters p) {
  const int64_t index = int64_t{ptx::block_index()} * kWarps + ptx::thread_index() / 32;
  if (index >= p.u.rows * p.u.members) return;
  const int64_t row = index / p.u.members, member = index % p.u.members, first = member * p.u.hidden;
  float sum = 0;
  for (int64_t unit = first + ptx::thread_index() % 32; unit < first + p.u.hidden; unit += 32) {
    const float z = ptx::ldg32f(p.u.z + row * p.u.z_stride + unit) + ptx::ldg32f(p.u.b1 + unit);
    sum = fmaf(z <= 0.0f ? 0.0f : z, ptx::ldg32f(p.u.w2 + unit), sum);  // a NaN is not hidden
  }
  sum = warp_sum(sum);
  if (ptx::thread_index() % 32 != 0) return;
  ptx::stg32f(p.rewards + member * p.u.rows + row, sum + ptx::ldg32f(p.b2 + member));
}

struct HiddenGradientParameters {
  HiddenUnits u;
  const float* reward_gradient;  // [members, rows]
  uint16_t* planes;              // of dH: [count][rows][stride]
  int64_t stride;
  int count;
  float* g_part;    // [chunks of rows][units]: sums of dr where the unit is active
  float* dw2_part;  // likewise, of dr relu(z)
};

// A block 64 units of 256 rows; a thread two neighbouring units of every eighth row.
RH_KERNEL(kThreads, 4) composed_hidden_gradient(RH_GRID_CONST const HiddenGradientParameters p) {
  const int64_t units = p.u.members * p.u.hidden, unit_blocks = ceil_divide(units, kChunkUnits);
  const int64_t chunk = ptx::block_index() / unit_blocks;
  const uint32_t warp = ptx::thread_index() / 32, lane = ptx::thread_index() % 32;
  const int64_t unit = ptx::block_index() % unit_blocks * kChunkUnits + 2 * lane;
  float bias[2], weight[2], g[2] = {}, dw2[2] = {};
  const float* dr[2];
  RH_UNROLL for (int i = 0; i < 2; ++i) {
    const int64_t own = unit + i < units ? unit + i : 0;
    bias[i] = ptx::ldg32f(p.u.b1 + own);
    weight[i] = ptx::ldg32f(p.u.w2 + own);
    dr[i] = p.reward_gradient + own / p.u.hidden * p.u.rows;
  }
  const int64_t end = chunk * kChunkRows + kChunkRows < p.u.rows ? chunk * kChunkRows + kChunkRows : p.u.rows;
  for (int64_t row = chunk * kChunkRows + warp; row < end; row += kWarps) {
    float dh[2] = {};
    RH_UNROLL for (int i = 0; i < 2; ++i) {
      if (unit + i >= units) continue;
      const float z = ptx::ldg32f(p.u.z + row * p.u.z_stride + unit + i) + bias[i];
      if (z <= 0.0f) continue;  // a NaN is not hidden
      const float slope = ptx::ldg32f(dr[i] + row);
      g[i] += slope;
      dw2[i] = fmaf(slope, z, dw2[i]);
      dh[i] = slope * weight[i];
    }
    if (unit >= p.stride) continue;
    uint16_t* to = p.planes + row * p.stride + unit;
    for (int plane = 0; plane < p.count; ++plane, to += p.u.rows * p.stride) {
      ptx::stg32(to, take_plane<ptx::Input::bf16>(dh[0], dh[1]));
    }
  }
  // Lanes side by side, so that none waits for another's bank.
  const uint32_t shared = ptx::smem_base(), own = shared + 4 * ptx::thread_index();
  ptx::sts32(own, float_bits(g[0]));
  ptx::sts32(own + 4 * kThreads, float_bits(g[1]));
  ptx::sts32(own + 8 * kThreads, float_bits(dw2[0]));
  ptx::sts32(own + 12 * kThreads, float_bits(dw2[1]));
  ptx::syncthreads();
  if (warp != 0) return;
  RH_UNROLL for (int i = 0; i < 4; ++i) {
    float sum = 0;
    for (uint32_t w = 0; w < kWarps; ++w) sum += bits_float(ptx::lds32(own + 4 * (i * kThreads + w * 32)));
    if (unit + i % 2 < units) ptx::stg32f((i < 2 ? p.g_part : p.dw2_part) + chunk * units + unit + i % 2, sum);
  }
}

struct UnitSumParameters {
  const float *g_part, *dw2_part;  // [chunks][units]
  const float* w2;                 // [units]
  float *db1, *dw2;                // [units]
  int64_t chunks, units;
};

RH_KERNEL(kThreads, 4) composed_unit_sums(RH_GRID_CONST const UnitSumParameters p) {
  const int64_t unit = int64_t{ptx::block_index()} * kThreads + ptx::thread_index();
  if (unit >= p.units) return;
  float g = 0, dw2 = 0;
  for (int64_t chunk = 0; chunk < p.chunks; ++chunk) {
    g += ptx::ldg32f(p.g_part + chunk * p.units + unit);
    dw2 += ptx::ldg32f(p.dw2_part + chunk * p.units + unit);
  }
  ptx::stg32f(p.db1 + unit, ptx::ldg32f(p.w2 + unit) * g);
  ptx::stg32f(p.dw2 + unit, dw2);
}

// ---- products

// Row-major matrices; cuBLASLt's are column-major, so that it sees each transposed.
struct Operand {
  Planes planes;
  bool transposed;
};
// out [rows, columns] = left right, where right's rows are the columns of left, all of them as they are once
// transposed.
struct Product {
  Operand left, right;
  int64_t rows, columns, inner;
  float* out;
  int64_t out_stride;
};

// What describes it to cuBLASLt, on the stack: D^T = right^T left^T.
struct Description {
  cublaslt::MatmulDescriptor operation;
  cublaslt::MatrixLayout right, left, out;
};

int describe(const cublaslt::Functions& call, const Product& p, Description& to) {
  int status = call.init_descriptor(&to.operation, sizeof to.operation, cublaslt::kComputeFloat, cublaslt::kFloat);
  const auto add = [&](cublaslt::MatrixLayout& layout, int type, int64_t rows, int64_t columns, int64_t stride) {
    if (status) return;
    status = call.init_layout(&layout, sizeof layout, type, static_cast<uint64_t>(columns), static_cast<uint64_t>(rows),
                              stride);
  };
  const auto add_operand = [&](cublaslt::MatrixLayout& layout, const Operand& o, int64_t rows, int64_t columns,
                               int side) {
    add(layout, cublaslt::kBFloat16, o.transposed ? columns : rows, o.transposed ? rows : columns, o.planes.stride);
    if (!status && o.transposed) {
      status = call.set_descriptor(&to.operation, side, &cublaslt::kTransposed, sizeof cublaslt::kTransposed);
    }
  };
  add_operand(to.right, p.right, p.inner, p.columns, cublaslt::kTransposeA);
  add_operand(to.left, p.left, p.rows, p.inner, cublaslt::kTransposeB);
  add(to.out, cublaslt::kFloat, p.rows, p.columns, p.out_stride);
  return status;
}

// Operands are aligned to 16 bytes; of outputs the caller's may not be.
int choose_algorithm(const cublaslt::Library& library, const Product& product, uint32_t out_alignment,
                     cublaslt::Algorithm& algorithm, size_t& workspace_bytes) {
  constexpr uint64_t kMostWorkspace = 32 << 20;  // what NVIDIA recommends for compute capability 9.0
  constexpr uint32_t kOperandAlignment = 16;
  const cublaslt::Functions& call = library.call;
  Description description = {};
  if (const int status = describe(call, product, description)) return status;
  cublaslt::Preference preference = nullptr;
  if (const int status = call.create_preference(&preference)) return status;
  int status = cublaslt::kSuccess;
  const auto prefer = [&](int attribute, auto value) {
    if (!status) status = call.set_preference(preference, attribute, &value, sizeof value);
  };
  prefer(cublaslt::kMaxWorkspaceBytes, kMostWorkspace);
  prefer(cublaslt::kReductionSchemeMask, cublaslt::kOrderedReductions);
  prefer(cublaslt::kMinAlignmentA, kOperandAlignment);
  prefer(cublaslt::kMinAlignmentB, kOperandAlignment);
  prefer(cublaslt::kMinAlignmentC, out_alignment);
  prefer(cublaslt::kMinAlignmentD, out_alignment);
  cublaslt::Heuristic best = {};
  int found = 0;
  if (!status) {
    status = call.get_heuristic(library.handle, &description.operation, &description.right, &description.left,
                                &description.out, &description.out, preference, 1, &best, &found);
  }
  call.destroy_preference(preference);
  if (!status) status = found == 1 ? best.status : cublaslt::kNotSupported;
  if (status) return status;
  algorithm = best.algorithm;
  workspace_bytes = std::max(workspace_bytes, best.workspace_bytes);
  return cublaslt::kSuccess;
}

cudaError_t multiply(const ComposedPlan& plan, const Product& p, const cublaslt::Algorithm& algorithm, void* workspace,
                     cudaStream_t stream) {
  const cublaslt::Functions& call = plan.library->call;
  Description description = {};
  int status = describe(call, p, description);
  const Passes passes = passes_of(p.left.planes.planes, p.right.planes.planes);
  for (int i = 0; i < passes.count && !status; ++i) {
    const float one = 1, beta = i > 0 ? 1.0f : 0.0f;
    status =
        call.matmul(plan.library->handle, &description.operation, &one,
                    p.right.planes.data + passes.pass[i].b * p.right.planes.plane, &description.right,
                    p.left.planes.data + passes.pass[i].a * p.left.planes.plane, &description.left, &beta, p.out,
                    &description.out, p.out, &description.out, &algorithm, workspace, plan.product_workspace, stream);
  }
  if (status == cublaslt::kSuccess) return cudaSuccess;
  return status == cublaslt::kNotSupported   ? cudaErrorNotSupported
         : status == cublaslt::kInvalidValue ? cudaErrorInvalidValue
                                             : cudaErrorUnknown;
}

// ---- launchers

struct ComposedUnits {
  explicit ComposedUnits(const MlpPlan& plan)
      : units(plan.members * plan.hidden), z_stride(round_up(units, 4)), stride(round_up(units, 8)) {}
  int64_t units, z_stride, stride;
};

struct ComposedScratch {
  void* product_workspace;
  uint16_t *x, *w1, *dh;
  float *g_part, *dw2_part;
  size_t bytes;

  static ComposedScratch carve(void* workspace, const ComposedPlan& plan) {
    const MlpPlan& mlp = plan.mlp;
    const ComposedUnits u(mlp);
    const int64_t stride = round_up(mlp.input, 8), chunks = ceil_divide(mlp.rows, kChunkRows);
    Carver carver(workspace);
    ComposedScratch scratch = {};
    scratch.product_workspace = carver.take<char>(static_cast<int64_t>(plan.product_workspace));  // first: aligned most
    scratch.x = carver.take<uint16_t>(x_planes(mlp) * mlp.rows * stride);
    scratch.w1 = carver.take<uint16_t>(mlp.planes * u.units * stride);
    scratch.dh = carver.take<uint16_t>(mlp.planes * mlp.rows * u.stride);
    scratch.g_part = carver.take<float>(chunks * u.units);
    scratch.dw2_part = carver.take<float>(chunks * u.units);
    scratch.bytes = carver.bytes();
    return scratch;
  }
};

// Planes of X [rows, input] and of W1 [units, input], and of dH [rows, units], without their data.
Planes x_shape(const MlpPlan& plan, int64_t rows) {
  const int64_t stride = round_up(plan.input, 8);
  return {nullptr, rows, plan.input, stride, rows * stride, x_planes(plan)};
}
Planes w1_shape(const MlpPlan& plan) {
  const int64_t stride = round_up(plan.input, 8), units = ComposedUnits(plan).units;
  return {nullptr, units, plan.input, stride, units * stride, plan.planes};
}
Planes dh_shape(const MlpPlan& plan, int64_t rows) {
  const ComposedUnits u(plan);
  return {nullptr, rows, u.units, u.stride, rows * u.stride, plan.planes};
}

Product forward_product(const MlpPlan& plan, const Planes& x, const Planes& w1, float* z) {
  const ComposedUnits u(plan);
  return {{x, false}, {w1, true}, x.rows, u.units, plan.input, z, u.z_stride};
}
Product w1_gradient_product(const MlpPlan& plan, const Planes& dh, const Planes& x, float* out) {
  return {{dh, true}, {x, false}, ComposedUnits(plan).units, plan.input, x.rows, out, plan.input};
}
Product input_gradient_product(const MlpPlan& plan, const Planes& dh, const Planes& w1, float* out,
                               int64_t out_stride) {
  return {{dh, false}, {w1, false}, dh.rows, plan.input, ComposedUnits(plan).units, out, out_stride};
}

bool is_aligned(const float* out, int64_t stride) {
  return reinterpret_cast<uintptr_t>(out) % 16 == 0 && stride % 4 == 0;
}

cudaError_t fill(const Matrix& from, uint16_t* to, Planes& planes, cudaStream_t stream) {
  planes.data = to;
  return split_matrix({from, from.rows, from.rows, to, planes.stride, planes.planes, false}, stream);
}
cudaError_t fill_x(const MlpPlan& plan, const Matrix& x, uint16_t* to, Planes& planes, cudaStream_t stream) {
  planes = x_shape(plan, x.rows);
  if (plan.dtype != Dtype::bf16 || !has_aligned_rows<uint16_t>(x.data, x.stride)) return fill(x, to, planes, stream);
  planes.data = static_cast<const uint16_t*>(x.data);
  planes.stride = x.stride;
  return cudaSuccess;
}
cudaError_t fill_w1(const MlpPlan& plan, const float* w1, uint16_t* to, Planes& planes, cudaStream_t stream) {
  planes = w1_shape(plan);
  return fill({w1, Dtype::f32, planes.rows, plan.input, plan.input}, to, planes, stream);
}

}  // namespace

int choose_algorithms(const MlpPlan& mlp, const cublaslt::Library& library, ComposedPlan& plan) {
  plan = {};
  plan.mlp = mlp;
  plan.library = &library;
  const Planes x = x_shape(mlp, mlp.rows), w1 = w1_shape(mlp), dh = dh_shape(mlp, mlp.rows);
  int status = cublaslt::kSuccess;
  const auto choose = [&](const Product& product, uint32_t alignment, cublaslt::Algorithm& algorithm) {
    if (!status) status = choose_algorithm(library, product, alignment, algorithm, plan.product_workspace);
  };
  choose(forward_product(mlp, x, w1, nullptr), 16, plan.forward);
  for (const int any : {0, 1}) {
    const uint32_t alignment = any ? 4 : 16;
    const int64_t stride = any ? mlp.input : round_up(mlp.input, 4);
    Product w1_gradient = w1_gradient_product(mlp, dh, x, nullptr);
    w1_gradient.out_stride = stride;
    choose(w1_gradient, alignment, plan.w1_gradient[any]);
    if (!mlp.input_gradient) continue;
    choose(input_gradient_product(mlp, dh, w1, nullptr, stride), alignment, plan.input_gradient[any]);
  }
  return status;
}

size_t composed_mask_bytes(const ComposedPlan& plan) {
  return static_cast<size_t>(plan.mlp.rows * ComposedUnits(plan.mlp).z_stride) * sizeof(float);
}
size_t composed_workspace(const ComposedPlan& plan) { return ComposedScratch::carve(nullptr, plan).bytes; }

cudaError_t composed_forward(const ComposedPlan& plan, const ForwardArguments& a, void* workspace,
                             cudaStream_t stream) {
  const MlpPlan& mlp = plan.mlp;
  const ComposedScratch scratch = ComposedScratch::carve(workspace, plan);
  float* const z = reinterpret_cast<float*>(a.mask);
  Planes x, w1;
  if (const cudaError_t error = fill_x(mlp, a.x, scratch.x, x, stream)) return error;
  if (const cudaError_t error = fill_w1(mlp, a.head.w1, scratch.w1, w1, stream)) return error;
  const Product product = forward_product(mlp, x, w1, z);
  if (const cudaError_t error = multiply(plan, product, plan.forward, scratch.product_workspace, stream)) return error;
  const RewardParameters rewards = {
      {z, a.head.b1, a.head.w2, mlp.members, a.x.rows, mlp.hidden, product.out_stride}, a.head.b2, a.rewards};
  return launch(composed_rewards, {ceil_divide(mlp.members * a.x.rows, kWarps), kThreads}, rewards, stream);
}

cudaError_t composed_backward(const ComposedPlan& plan, const BackwardArguments& a, void* workspace,
                              cudaStream_t stream) {
  const MlpPlan& mlp = plan.mlp;
  const ComposedUnits u(mlp);
  const ComposedScratch scratch = ComposedScratch::carve(workspace, plan);
  const int64_t chunks = ceil_divide(a.x.rows, kChunkRows);
  Planes dh = dh_shape(mlp, a.x.rows), x, w1;
  dh.data = scratch.dh;
  const float* const z = reinterpret_cast<const float*>(a.mask);
  const HiddenGradientParameters hidden = {{z, a.head.b1, a.head.w2, mlp.members, a.x.rows, mlp.hidden, u.z_stride},
                                           a.reward_gradient,
                                           scratch.dh,
                                           u.stride,
                                           mlp.planes,
                                           scratch.g_part,
                                           scratch.dw2_part};
  const LaunchShape shape = {chunks * ceil_divide(u.units, kChunkUnits), kThreads, kThreads * 16};
  if (const cudaError_t error = launch(composed_hidden_gradient, shape, hidden, stream)) return error;
  const UnitSumParameters sums = {scratch.g_part, scratch.dw2_part, a.head.w2, a.gradient.b1,
                                  a.gradient.w2,  chunks,           u.units};
  if (const cudaError_t error = launch(composed_unit_sums, {ceil_divide(u.units, kThreads), kThreads}, sums, stream)) {
    return error;
  }
  if (const cudaError_t error = sum_rows(a.reward_gradient, mlp.members, a.x.rows, a.gradient.b2, stream)) return error;

  if (const cudaError_t error = fill_x(mlp, a.x, scratch.x, x, stream)) return error;
  const Product dw1 = w1_gradient_product(mlp, dh, x, a.gradient.w1);
  const cublaslt::Algorithm& dw1_algorithm = plan.w1_gradient[is_aligned(dw1.out, dw1.out_stride) ? 0 : 1];
  if (const cudaError_t error = multiply(plan, dw1, dw1_algorithm, scratch.product_workspace, stream)) return error;
  if (!a.input_gradient) return cudaSuccess;
  if (const cudaError_t error = fill_w1(mlp, a.head.w1, scratch.w1, w1, stream)) return error;
  const Product dx = input_gradient_product(mlp, dh, w1, a.input_gradient, a.input_gradient_stride);
  const cublaslt::Algorithm& dx_algorithm = plan.input_gradient[is_aligned(dx.out, dx.out_stride) ? 0 : 1];
  return multiply(plan, dx, dx_algorithm, scratch.product_workspace, stream);
}

}  // namespace rewardhead::kernels::cuda
