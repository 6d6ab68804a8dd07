// SPDX-License-Identifier: Apache-2.0
//
// cuBLASLt by plain loops: sums in fp64, stored in the type of the output. Column-major matrices only. There is one
// algorithm, which asks for a workspace where it may have one, and leaves NaNs in it.
#include "cublasLt.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "kernels/cuda/ptx.h"
#include "tests/simt/runtime_state.h"

struct cublasLtContext {};
struct cublasLtMatmulDescOpaque_t {
  int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;
  int64_t bias_batch_stride = 0;
  int32_t bias_type = -1;  // as D
  void* mask = nullptr;    // of ReLU: a bit for each element of D
  int64_t mask_ld = 0, mask_batch_stride = 0;
};
struct cublasLtMatrixLayoutOpaque_t {
  int32_t type;
  uint64_t rows, columns;
  int64_t ld;
  int32_t batches = 1;
  int64_t batch_stride = 0;
};
struct cublasLtMatmulPreferenceOpaque_t {
  uint64_t max_workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};  // of A, B, C, D
};

namespace simt {
namespace {

using Layout = cublasLtMatrixLayoutOpaque_t;
using Operation = cublasLtMatmulDescOpaque_t;

constexpr uint64_t kAlgorithm = 0x736f66742d6d6d31;
constexpr size_t kWorkspace = 1 << 16;
constexpr uint32_t kRelu = 2, kBias = 4, kReluGradient = 8, kBiasGradient = 16, kMask = 128;

int64_t element_bytes(int32_t type) { return type == CUDA_R_32F ? 4 : 2; }
bool known_type(int32_t type) { return type == CUDA_R_32F || type == CUDA_R_16F || type == CUDA_R_16BF; }
ptx::Input input_of(int32_t type) { return type == CUDA_R_16F ? ptx::Input::f16 : ptx::Input::bf16; }

double load(const void* base, int32_t type, int64_t index) {
  const char* const at = static_cast<const char*>(base) + index * element_bytes(type);
  if (type == CUDA_R_32F) {
    float value;
    std::memcpy(&value, at, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, 2);
  return ptx::low(input_of(type), bits);
}
void store(void* base, int32_t type, int64_t index, double value) {
  char* const at = static_cast<char*>(base) + index * element_bytes(type);
  const float rounded = static_cast<float>(value);
  if (type == CUDA_R_32F) {
    std::memcpy(at, &rounded, 4);
    return;
  }
  const uint16_t bits = static_cast<uint16_t>(ptx::pack(input_of(type), rounded, 0));
  std::memcpy(at, &bits, 2);
}

// All batches of it must be device memory.
void check_memory(const char* what, const void* memory, int64_t bytes) {
  if (!is_device_memory(memory, static_cast<size_t>(bytes))) {
    fault(Hazard::global_out_of_bounds, "cublasLtMatmul: %s, %lld bytes at %p", what, static_cast<long long>(bytes),
          memory);
  }
}
int64_t extent(const Layout& l) {
  const int64_t one = (static_cast<int64_t>(l.columns) - 1) * l.ld + static_cast<int64_t>(l.rows);
  return (one + (l.batches - 1) * l.batch_stride) * element_bytes(l.type);
}

bool consistent(const Operation& o, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
  const bool ta = o.transpose_a == CUBLAS_OP_T, tb = o.transpose_b == CUBLAS_OP_T;
  const uint64_t m = ta ? a.columns : a.rows, k = ta ? a.rows : a.columns;
  const uint64_t n = tb ? b.rows : b.columns, other_k = tb ? b.columns : b.rows;
  if (k != other_k || m != d.rows || n != d.columns || c.rows != m || c.columns != n || m == 0 || n == 0 || k == 0)
    return false;
  for (const Layout* l : {&a, &b, &c, &d}) {
    if (!known_type(l->type) || l->ld < static_cast<int64_t>(l->rows) || l->batches != d.batches) return false;
  }
  return a.type == b.type && c.type == d.type && (d.type == CUDA_R_32F || d.type == a.type);
}

bool supported_epilogue(const Operation& o, const Layout& d) {
  switch (o.epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_RELU:
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_RELU_BIAS:
    case CUBLASLT_EPILOGUE_RELU_AUX:
    case CUBLASLT_EPILOGUE_RELU_AUX_BIAS:
    case CUBLASLT_EPILOGUE_DRELU:
    case CUBLASLT_EPILOGUE_DRELU_BGRAD:
      break;
    default:
      return false;
  }
  if ((o.epilogue & (kBias | kBiasGradient)) && !o.bias) return false;
  if (!(o.epilogue & kMask)) return true;
  return o.mask && o.mask_ld % 128 == 0 && o.mask_ld >= static_cast<int64_t>(d.rows);
}

struct Product {
  Operation operation;
  Layout a, b, c, d;
  const void *from_a, *from_b, *from_c;
  void *to, *workspace;
  size_t workspace_bytes;
  float alpha, beta;

  int32_t bias_type() const { return operation.bias_type < 0 ? d.type : operation.bias_type; }

  void check() const {
    check_memory("A", from_a, extent(a));
    check_memory("B", from_b, extent(b));
    if (beta != 0) check_memory("C", from_c, extent(c));
    check_memory("D", to, extent(d));
    const int64_t rows = static_cast<int64_t>(d.rows), columns = static_cast<int64_t>(d.columns), last = d.batches - 1;
    if (operation.epilogue & (kBias | kBiasGradient)) {
      check_memory("bias", operation.bias, (rows + last * operation.bias_batch_stride) * element_bytes(bias_type()));
    }
    if (operation.epilogue & kMask) {
      check_memory("ReLU mask", operation.mask, (columns * operation.mask_ld + last * operation.mask_batch_stride) / 8);
    }
    if (workspace_bytes) check_memory("workspace", workspace, static_cast<int64_t>(workspace_bytes));
  }

  double sum(int64_t batch, int64_t row, int64_t column) const {
    const bool ta = operation.transpose_a == CUBLAS_OP_T, tb = operation.transpose_b == CUBLAS_OP_T;
    const int64_t count = static_cast<int64_t>(ta ? a.rows : a.columns);
    double total = 0;
    for (int64_t k = 0; k < count; ++k) {
      total += load(from_a, a.type, batch * a.batch_stride + (ta ? row * a.ld + k : k * a.ld + row)) *
               load(from_b, b.type, batch * b.batch_stride + (tb ? k * b.ld + column : column * b.ld + k));
    }
    return total;
  }

  void run_batch(int64_t batch) const {
    const uint32_t epilogue = operation.epilogue;
    uint8_t* const mask = static_cast<uint8_t*>(operation.mask);
    for (int64_t row = 0; row < static_cast<int64_t>(d.rows); ++row) {
      const int64_t bias_at = batch * operation.bias_batch_stride + row;
      double gradient = 0;
      for (int64_t column = 0; column < static_cast<int64_t>(d.columns); ++column) {
        double value = alpha * sum(batch, row, column);
        if (beta != 0) value += beta * load(from_c, c.type, batch * c.batch_stride + column * c.ld + row);
        if (epilogue & kBias) value += load(operation.bias, bias_type(), bias_at);
        const int64_t bit = batch * operation.mask_batch_stride + column * operation.mask_ld + row;
        const uint8_t in_byte = static_cast<uint8_t>(1 << bit % 8);
        if (epilogue & kRelu) {
          const bool passes = !(value <= 0);
          if (epilogue & kMask)
            mask[bit / 8] = static_cast<uint8_t>(passes ? mask[bit / 8] | in_byte : mask[bit / 8] & ~in_byte);
          if (!passes) value = 0;
        }
        if ((epilogue & kReluGradient) && !(mask[bit / 8] & in_byte)) value = 0;
        if (row == 0 && column == 1 && device().broken_cublaslt) value += 1;
        gradient += value;
        store(to, d.type, batch * d.batch_stride + column * d.ld + row, value);
      }
      if (epilogue & kBiasGradient) store(operation.bias, bias_type(), bias_at, gradient);
    }
  }

  void run() const {
    check();
    const HostAccess access;
    if (workspace_bytes) std::memset(workspace, 0xff, workspace_bytes);
    for (int64_t batch = 0; batch < d.batches; ++batch) run_batch(batch);
  }
};

template <class T>
cublasStatus_t set(T& to, const void* value, size_t bytes) {
  if (!value || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, value, sizeof(T));
  return CUBLAS_STATUS_SUCCESS;
}
// Of attributes that have one value here.
template <class T>
cublasStatus_t only(T supported, const void* value, size_t bytes) {
  T given;
  if (const cublasStatus_t status = set(given, value, bytes)) return status;
  return given == supported ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}
template <class T>
cublasStatus_t destroy(T* object) {
  delete object;
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace
}  // namespace simt

using namespace simt;

#pragma GCC visibility push(default)  // found by dlsym, as where the library is opened only when it is used
extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (!handle) return CUBLAS_STATUS_INVALID_VALUE;
  if (device().count == 0 || device().no_cublaslt || Call::failed()) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return destroy(handle); }
size_t cublasLtGetVersion(void) { return 130000; }

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t operation, size_t bytes,
                                               cublasComputeType_t compute, cudaDataType_t scale) {
  const bool fp32 = compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_PEDANTIC ||
                    compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  if (!operation || !fp32 || scale != CUDA_R_32F) return CUBLAS_STATUS_INVALID_VALUE;
  if (bytes < sizeof(Operation)) return CUBLAS_STATUS_ALLOC_FAILED;
  new (operation) Operation;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  if (!operation) return CUBLAS_STATUS_INVALID_VALUE;
  Operation made;
  if (const cublasStatus_t status = cublasLtMatmulDescInit_internal(&made, sizeof made, compute, scale)) return status;
  *operation = new Operation(made);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t o, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  if (!o) return CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
      return only<int32_t>(CUBLASLT_POINTER_MODE_HOST, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return set(o->transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return set(o->transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return set(o->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return set(o->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
      return set(o->bias_batch_stride, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return set(o->bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return set(o->mask, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return set(o->mask_ld, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE:
      return set(o->mask_batch_stride, value, bytes);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) { return destroy(operation); }

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t bytes, cudaDataType type,
                                                 uint64_t rows, uint64_t columns, int64_t ld) {
  if (!layout || !known_type(type)) return CUBLAS_STATUS_INVALID_VALUE;
  if (bytes < sizeof(Layout)) return CUBLAS_STATUS_ALLOC_FAILED;
  new (layout) Layout{type, rows, columns, ld};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
  if (!layout || !known_type(type)) return CUBLAS_STATUS_INVALID_VALUE;
  *layout = new Layout{type, rows, columns, ld};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, size_t bytes) {
  if (!l) return CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
      return set(l->type, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
      return only<int32_t>(CUBLASLT_ORDER_COL, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
      return set(l->rows, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
      return set(l->columns, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
      return set(l->ld, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return set(l->batches, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return set(l->batch_stride, value, bytes);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return destroy(layout); }

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  if (!preference) return CUBLAS_STATUS_INVALID_VALUE;
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  uint32_t ignored;  // the one algorithm reduces nothing
  if (!p) return CUBLAS_STATUS_INVALID_VALUE;
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) return set(p->max_workspace, value, bytes);
  const int matrix = attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
  return set(matrix >= 0 && matrix < 4 ? p->alignment[matrix] : ignored, value, bytes);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) { return destroy(preference); }

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t* results, int* count) {
  if (!handle || !operation || !a || !b || !c || !d || !preference || requested < 1 || !results || !count) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  *count = 0;
  if (!consistent(*operation, *a, *b, *c, *d)) return CUBLAS_STATUS_INVALID_VALUE;
  if (!supported_epilogue(*operation, *d)) return CUBLAS_STATUS_NOT_SUPPORTED;
  *results = {};
  results->workspaceSize = preference->max_workspace >= kWorkspace ? kWorkspace : 0;
  results->algo.data[0] = kAlgorithm;
  results->algo.data[1] = results->workspaceSize;
  for (int i = 0; i < 4; ++i) results->algo.data[2 + i] = preference->alignment[i];
  results->wavesCount = 1;
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  const Call call;
  if (!handle || !operation || !alpha || !beta || !a_layout || !b_layout || !c_layout || !d_layout) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const size_t needed = algo ? algo->data[1] : 0;
  const void* const matrices[] = {a, b, c, d};
  for (int i = 0; algo && i < 4; ++i) {  // the algorithm was chosen for matrices that are aligned so
    if (reinterpret_cast<uintptr_t>(matrices[i]) % algo->data[2 + i]) return CUBLAS_STATUS_INVALID_VALUE;
  }
  if ((algo && algo->data[0] != kAlgorithm) || needed > workspace_bytes ||
      (needed && reinterpret_cast<uintptr_t>(workspace) % 256) ||
      !consistent(*operation, *a_layout, *b_layout, *c_layout, *d_layout)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (!supported_epilogue(*operation, *d_layout)) return CUBLAS_STATUS_NOT_SUPPORTED;
  Product p{*operation, *a_layout, *b_layout, *c_layout, *d_layout, a, b, c, d, workspace, needed, 0, 0};
  std::memcpy(&p.alpha, alpha, sizeof p.alpha);
  std::memcpy(&p.beta, beta, sizeof p.beta);
  CUstream_st* const s = find_stream(stream);
  if (!s || enqueue_work(*s, [p](Node&) { p.run(); }) != cudaSuccess) return CUBLAS_STATUS_EXECUTION_FAILED;
  ++runtime().counts.launches;
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
#pragma GCC visibility pop
