// SPDX-License-Identifier: Apache-2.0
//
// kernels/cuda/cublaslt.h against a cublasLt.h: compiled with the software device's, and with CUDA's where it is
// installed. Nothing of it runs.
#include <cublasLt.h>

#include <type_traits>

#include "kernels/cuda/cublaslt.h"

namespace rewardhead::kernels::cuda::cublaslt {
namespace {

static_assert(kSuccess == CUBLAS_STATUS_SUCCESS && kInvalidValue == CUBLAS_STATUS_INVALID_VALUE);
static_assert(kNotSupported == CUBLAS_STATUS_NOT_SUPPORTED);
static_assert(kFloat == CUDA_R_32F && kBFloat16 == CUDA_R_16BF && kComputeFloat == CUBLAS_COMPUTE_32F);
static_assert(kTransposed == CUBLAS_OP_T && CUBLAS_OP_N == 0);
static_assert(kTransposeA == CUBLASLT_MATMUL_DESC_TRANSA && kTransposeB == CUBLASLT_MATMUL_DESC_TRANSB);
static_assert(kMaxWorkspaceBytes == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
static_assert(kReductionSchemeMask == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
static_assert(kMinAlignmentA == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
static_assert(kMinAlignmentB == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
static_assert(kMinAlignmentC == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
static_assert(kMinAlignmentD == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
static_assert(kOrderedReductions == (CUBLASLT_REDUCTION_SCHEME_MASK & ~CUBLASLT_REDUCTION_SCHEME_INPLACE));
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t));
static_assert(sizeof(Heuristic) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(Heuristic, workspace_bytes) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
static_assert(offsetof(Heuristic, status) == offsetof(cublasLtMatmulHeuristicResult_t, state));
#if defined(CUBLASLTAPI) || defined(CUBLAS_VER_MAJOR)  // CUDA's own, where descriptors are no secret
static_assert(sizeof(MatmulDescriptor) == sizeof(cublasLtMatmulDescOpaque_t));
static_assert(sizeof(MatrixLayout) == sizeof(cublasLtMatrixLayoutOpaque_t));
#endif

// The same calling convention: as many parameters, each of the same size and of a kind, enumerations being integers.
template <class Ours, class Theirs>
constexpr bool same_kind() {
  return sizeof(Ours) == sizeof(Theirs) && std::is_pointer_v<Ours> == std::is_pointer_v<Theirs> &&
         std::is_floating_point_v<Ours> == std::is_floating_point_v<Theirs>;
}
template <class Ours, class Theirs>
constexpr bool same_call = false;
template <class Our, class... Ours, class Their, class... Theirs>
constexpr bool same_call<Our (*)(Ours...), Their (*)(Theirs...)> = [] {
  if constexpr (sizeof...(Ours) != sizeof...(Theirs)) {
    return false;
  } else {
    return same_kind<Our, Their>() && (same_kind<Ours, Theirs>() && ...);
  }
}();

static_assert(same_call<decltype(Functions::get_version), decltype(&cublasLtGetVersion)>);
static_assert(same_call<decltype(Functions::create), decltype(&cublasLtCreate)>);
static_assert(same_call<decltype(Functions::destroy), decltype(&cublasLtDestroy)>);
static_assert(same_call<decltype(Functions::init_descriptor), decltype(&cublasLtMatmulDescInit_internal)>);
static_assert(same_call<decltype(Functions::set_descriptor), decltype(&cublasLtMatmulDescSetAttribute)>);
static_assert(same_call<decltype(Functions::init_layout), decltype(&cublasLtMatrixLayoutInit_internal)>);
static_assert(same_call<decltype(Functions::create_preference), decltype(&cublasLtMatmulPreferenceCreate)>);
static_assert(same_call<decltype(Functions::destroy_preference), decltype(&cublasLtMatmulPreferenceDestroy)>);
static_assert(same_call<decltype(Functions::set_preference), decltype(&cublasLtMatmulPreferenceSetAttribute)>);
static_assert(same_call<decltype(Functions::get_heuristic), decltype(&cublasLtMatmulAlgoGetHeuristic)>);
static_assert(same_call<decltype(Functions::matmul), decltype(&cublasLtMatmul)>);
static_assert(!same_call<decltype(Functions::matmul), decltype(&cublasLtCreate)>);

}  // namespace
}  // namespace rewardhead::kernels::cuda::cublaslt
