// SPDX-License-Identifier: Apache-2.0
//
// The few calls of cuBLASLt that the composed chain makes (cuBLAS documentation, "Using the cuBLASLt API"), declared
// here so that neither its header nor its library, of half a gigabyte, is needed to build: the runtime looks the
// functions up by name when a plan first wants them. Enumerations are passed as the integers that they are;
// tests/host/cuda/cublaslt_header.cpp holds names, values, sizes and signatures against a cublasLt.h.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace rewardhead::kernels::cuda::cublaslt {

inline constexpr int kSuccess = 0, kInvalidValue = 7, kNotSupported = 15;  // cublasStatus_t
inline constexpr int kFloat = 0, kBFloat16 = 14;                           // cudaDataType
inline constexpr int kComputeFloat = 68;  // CUBLAS_COMPUTE_32F: products of bfloat16 are exact, sums are fp32
inline constexpr int kTransposed = 1;     // CUBLAS_OP_T; 0, not transposed, is the default
inline constexpr int kTransposeA = 3, kTransposeB = 4;                  // cublasLtMatmulDescAttributes_t
inline constexpr int kMaxWorkspaceBytes = 1, kReductionSchemeMask = 3;  // cublasLtMatmulPreferenceAttributes_t
inline constexpr int kMinAlignmentA = 5, kMinAlignmentB = 6, kMinAlignmentC = 7, kMinAlignmentD = 8;
// cublasLtReductionScheme_t without INPLACE (1), which adds parts in the order in which they are done.
inline constexpr uint32_t kOrderedReductions = 2 | 4;

using Handle = struct cublasLtContext*;
using Preference = void*;
// The library's descriptors, made on the stack: an execute allocates nothing. It refuses what is too small.
struct MatmulDescriptor {
  uint64_t data[32];
};
struct MatrixLayout {
  uint64_t data[8];
};
struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace_bytes;
  int status;
  float waves;
  int reserved[4];
};

struct Functions {
  size_t (*get_version)();
  int (*create)(Handle* handle);
  int (*destroy)(Handle handle);
  int (*init_descriptor)(MatmulDescriptor* descriptor, size_t bytes, int compute, int scale);
  int (*set_descriptor)(MatmulDescriptor* descriptor, int attribute, const void* value, size_t bytes);
  int (*init_layout)(MatrixLayout* layout, size_t bytes, int type, uint64_t rows, uint64_t columns, int64_t ld);
  int (*create_preference)(Preference* preference);
  int (*destroy_preference)(Preference preference);
  int (*set_preference)(Preference preference, int attribute, const void* value, size_t bytes);
  int (*get_heuristic)(Handle handle, MatmulDescriptor* descriptor, MatrixLayout* a, MatrixLayout* b, MatrixLayout* c,
                       MatrixLayout* d, Preference preference, int requested, Heuristic* results, int* count);
  int (*matmul)(Handle handle, MatmulDescriptor* descriptor, const void* alpha, const void* a, MatrixLayout* a_layout,
                const void* b, MatrixLayout* b_layout, const void* beta, const void* c, MatrixLayout* c_layout, void* d,
                MatrixLayout* d_layout, const Algorithm* algorithm, void* workspace, size_t workspace_bytes,
                cudaStream_t stream);
};

// each(name, pointer) for every function. The two whose name ends in _internal are what the header's inline
// cublasLtMatmulDescInit and cublasLtMatrixLayoutInit call.
template <class Each>
void for_each_function(Functions& f, const Each& each) {
  each("cublasLtGetVersion", f.get_version);
  each("cublasLtCreate", f.create);
  each("cublasLtDestroy", f.destroy);
  each("cublasLtMatmulDescInit_internal", f.init_descriptor);
  each("cublasLtMatmulDescSetAttribute", f.set_descriptor);
  each("cublasLtMatrixLayoutInit_internal", f.init_layout);
  each("cublasLtMatmulPreferenceCreate", f.create_preference);
  each("cublasLtMatmulPreferenceDestroy", f.destroy_preference);
  each("cublasLtMatmulPreferenceSetAttribute", f.set_preference);
  each("cublasLtMatmulAlgoGetHeuristic", f.get_heuristic);
  each("cublasLtMatmul", f.matmul);
}

// Functions and a handle, which any number of threads may use at once.
struct Library {
  Functions call;
  Handle handle;
};

}  // namespace rewardhead::kernels::cuda::cublaslt
