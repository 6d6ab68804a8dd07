// SPDX-License-Identifier: Apache-2.0
//
// The products and epilogues of cuBLASLt that a composed training step uses, on small integers: Z = W X^T + b with its
// ReLU mask, and the masked gradient with its row sums.
#include <cublasLt.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/cuda/ptx.h"
#include "tests/simt/runtime.h"

namespace simt::testing {
namespace {

class CublasLt : public ::testing::Test {
 protected:
  static constexpr int kM = 19, kN = 13, kK = 21, kLd = 24, kMaskLd = 128;

  CublasLt() {
    reset_runtime();
    EXPECT_EQ(cublasLtCreate(&handle_), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulDescCreate(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cublasLtMatmulPreferenceCreate(&preference_), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  ~CublasLt() override {
    cublasLtMatmulPreferenceDestroy(preference_);
    cublasLtMatmulDescDestroy(operation_);
    cublasLtDestroy(handle_);
    for (const cublasLtMatrixLayout_t layout : layouts_) cublasLtMatrixLayoutDestroy(layout);
    reset_runtime();
  }

  template <class T>
  cublasStatus_t set(cublasLtMatmulDescAttributes_t attribute, T value) {
    return cublasLtMatmulDescSetAttribute(operation_, attribute, &value, sizeof value);
  }
  cublasLtMatrixLayout_t layout(cudaDataType type, int rows, int columns, int ld) {
    cublasLtMatrixLayout_t made = nullptr;
    EXPECT_EQ(cublasLtMatrixLayoutCreate(&made, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), ld),
              CUBLAS_STATUS_SUCCESS);
    layouts_.push_back(made);
    return made;
  }
  template <class T>
  T* to_device(const std::vector<T>& values) {
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, values.size() * sizeof(T)), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
    return static_cast<T*>(memory);
  }
  template <class T>
  std::vector<T> to_host(const T* memory, size_t count) {
    std::vector<T> values(count);
    EXPECT_EQ(cudaMemcpy(values.data(), memory, count * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }
  // Columns of `ld`, of which the rows hold small integers.
  std::vector<float> matrix(int columns, int ld) {
    std::vector<float> values(static_cast<size_t>(columns * ld));
    for (float& v : values) v = static_cast<float>(static_cast<int>(random_() % 7) - 3);
    return values;
  }

  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  cudaStream_t stream_ = nullptr;
  std::vector<cublasLtMatrixLayout_t> layouts_;
  std::mt19937 random_{3};
};

TEST_F(CublasLt, ForwardAndBackwardOfALayer) {
  const std::vector<float> w = matrix(kM, kLd), x = matrix(kN, kLd), bias = matrix(1, kM);
  float *const dw = to_device(w), *const dx = to_device(x), *const db = to_device(bias);
  float* const z = to_device(std::vector<float>(kN * kM, NAN));
  uint8_t* const mask = to_device(std::vector<uint8_t>(kN * kMaskLd / 8, 0xaa));
  const cublasLtMatrixLayout_t lw = layout(CUDA_R_32F, kK, kM, kLd), lx = layout(CUDA_R_32F, kK, kN, kLd);
  const cublasLtMatrixLayout_t lz = layout(CUDA_R_32F, kM, kN, kM);
  const float one = 1, zero = 0;

  // Z = relu(W^T X + b), column-major.
  EXPECT_EQ(set<int32_t>(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(set<uint32_t>(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_RELU_AUX_BIAS), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(set<void*>(CUBLASLT_MATMUL_DESC_BIAS_POINTER, db), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(set<void*>(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, mask), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(set<int64_t>(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, kMaskLd), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(
      cublasLtMatmul(handle_, operation_, &one, dw, lw, dx, lx, &zero, z, lz, z, lz, nullptr, nullptr, 0, stream_),
      CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  const std::vector<float> found = to_host(z, kN * kM);
  const std::vector<uint8_t> bits = to_host(mask, kN * kMaskLd / 8);
  std::vector<float> expected(kN * kM);
  for (int n = 0; n < kN; ++n) {
    for (int m = 0; m < kM; ++m) {
      float sum = bias[static_cast<size_t>(m)];
      for (int k = 0; k < kK; ++k) sum += w[static_cast<size_t>(m * kLd + k)] * x[static_cast<size_t>(n * kLd + k)];
      EXPECT_EQ(found[static_cast<size_t>(n * kM + m)], std::max(sum, 0.0f));
      EXPECT_EQ(bits[static_cast<size_t>((n * kMaskLd + m) / 8)] >> m % 8 & 1, sum > 0);
      expected[static_cast<size_t>(n * kM + m)] = sum;
    }
  }

  // The gradient through it: G = (W^T X) where the bit is set, and its row sums in place of the bias.
  EXPECT_EQ(set<uint32_t>(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DRELU_BGRAD), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(
      cublasLtMatmul(handle_, operation_, &one, dw, lw, dx, lx, &zero, z, lz, z, lz, nullptr, nullptr, 0, stream_),
      CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  const std::vector<float> gradient = to_host(z, kN * kM), sums = to_host(db, kM);
  for (int m = 0; m < kM; ++m) {
    float sum = 0;
    for (int n = 0; n < kN; ++n) {
      const size_t at = static_cast<size_t>(n * kM + m);
      const float masked = expected[at] > 0 ? expected[at] - bias[static_cast<size_t>(m)] : 0;
      EXPECT_EQ(gradient[at], masked);
      sum += masked;
    }
    EXPECT_EQ(sums[static_cast<size_t>(m)], sum);
  }
}

TEST_F(CublasLt, HalvesInBatchesWithAlphaBetaAndAWorkspace) {
  for (const cudaDataType type : {CUDA_R_16F, CUDA_R_16BF}) {
    const ptx::Input input = type == CUDA_R_16F ? ptx::Input::f16 : ptx::Input::bf16;
    const auto stored = [&](const std::vector<float>& values) {
      std::vector<uint16_t> bits(values.size());
      for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(ptx::pack(input, values[i], 0));
      return bits;
    };
    const std::vector<float> a = matrix(2 * kK, kLd), b = matrix(2 * kK, kLd), c = matrix(2 * kN, kM);
    uint16_t *const da = to_device(stored(a)), *const db = to_device(stored(b));
    float* const dc = to_device(c);
    void* workspace;
    ASSERT_EQ(cudaMalloc(&workspace, 1 << 20), cudaSuccess);
    const cublasLtMatrixLayout_t la = layout(type, kM, kK, kLd), lb = layout(type, kN, kK, kLd);
    const cublasLtMatrixLayout_t lc = layout(CUDA_R_32F, kM, kN, kM);
    const int32_t batches = 2;
    for (const auto& [l, stride] :
         {std::pair{la, int64_t{kK * kLd}}, {lb, int64_t{kK * kLd}}, {lc, int64_t{kN * kM}}}) {
      EXPECT_EQ(cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batches, sizeof batches),
                CUBLAS_STATUS_SUCCESS);
      EXPECT_EQ(
          cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride),
          CUBLAS_STATUS_SUCCESS);
    }
    EXPECT_EQ(set<int32_t>(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_T), CUBLAS_STATUS_SUCCESS);
    const uint64_t most = 1 << 20;
    EXPECT_EQ(
        cublasLtMatmulPreferenceSetAttribute(preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most),
        CUBLAS_STATUS_SUCCESS);
    cublasLtMatmulHeuristicResult_t choice;
    int count = 0;
    ASSERT_EQ(cublasLtMatmulAlgoGetHeuristic(handle_, operation_, la, lb, lc, lc, preference_, 1, &choice, &count),
              CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(count, 1);
    ASSERT_GT(choice.workspaceSize, 0u);
    const float alpha = 2, beta = -1;
    const auto multiply = [&](size_t workspace_bytes) {
      return cublasLtMatmul(handle_, operation_, &alpha, da, la, db, lb, &beta, dc, lc, dc, lc, &choice.algo, workspace,
                            workspace_bytes, stream_);
    };
    EXPECT_EQ(multiply(choice.workspaceSize - 1), CUBLAS_STATUS_INVALID_VALUE);
    ASSERT_EQ(multiply(1 << 20), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    const std::vector<float> found = to_host(dc, c.size());
    for (int batch = 0; batch < 2; ++batch) {
      for (int n = 0; n < kN; ++n) {
        for (int m = 0; m < kM; ++m) {
          float sum = 0;
          for (int k = 0; k < kK; ++k) {
            sum +=
                a[static_cast<size_t>((batch * kK + k) * kLd + m)] * b[static_cast<size_t>((batch * kK + k) * kLd + n)];
          }
          const size_t at = static_cast<size_t>((batch * kN + n) * kM + m);
          ASSERT_EQ(found[at], 2 * sum - c[at]);
        }
      }
    }
    EXPECT_TRUE(std::isnan(to_host(static_cast<float*>(workspace), 1)[0]));
  }
}

TEST_F(CublasLt, RefusesWhatIsInconsistent) {
  const cublasLtMatrixLayout_t a = layout(CUDA_R_32F, 4, 5, 4), b = layout(CUDA_R_32F, 6, 7, 6);
  const cublasLtMatrixLayout_t d = layout(CUDA_R_32F, 4, 7, 4);
  cublasLtMatmulHeuristicResult_t choice;
  int count = 7;
  EXPECT_EQ(cublasLtMatmulAlgoGetHeuristic(handle_, operation_, a, b, d, d, preference_, 1, &choice, &count),
            CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(count, 0);
  const cublasLtMatrixLayout_t right = layout(CUDA_R_32F, 5, 7, 5);
  EXPECT_EQ(set<uint32_t>(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasLtMatmulAlgoGetHeuristic(handle_, operation_, a, right, d, d, preference_, 1, &choice, &count),
            CUBLAS_STATUS_NOT_SUPPORTED);  // no bias
  EXPECT_EQ(set<uint32_t>(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(cublasLtMatmulAlgoGetHeuristic(handle_, operation_, a, right, d, d, preference_, 1, &choice, &count),
            CUBLAS_STATUS_SUCCESS);
  float* const memory = to_device(std::vector<float>(200, 1));
  const float one = 1, zero = 0;
  const auto multiply = [&](float* out) {
    return cublasLtMatmul(handle_, operation_, &one, memory, a, memory, right, &zero, out, d, out, d, &choice.algo,
                          nullptr, 0, stream_);
  };
  EXPECT_EQ(multiply(memory + 65), CUBLAS_STATUS_INVALID_VALUE);  // chosen for what is aligned to 256 bytes
  EXPECT_EQ(multiply(memory + 64), CUBLAS_STATUS_SUCCESS);
  uint64_t too_small[1];
  EXPECT_EQ(cublasLtMatmulDescInit_internal(reinterpret_cast<cublasLtMatmulDesc_t>(too_small), sizeof too_small,
                                            CUBLAS_COMPUTE_32F, CUDA_R_32F),
            CUBLAS_STATUS_ALLOC_FAILED);
  EXPECT_EQ(cublasLtMatrixLayoutInit_internal(reinterpret_cast<cublasLtMatrixLayout_t>(too_small), sizeof too_small,
                                              CUDA_R_32F, 1, 1, 1),
            CUBLAS_STATUS_ALLOC_FAILED);
  EXPECT_EQ(set<uint32_t>(CUBLASLT_MATMUL_DESC_EPILOGUE, 32), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasLtMatmulAlgoGetHeuristic(handle_, operation_, a, right, d, d, preference_, 1, &choice, &count),
            CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_F(CublasLt, MemoryOutOfBoundsIsReported) {
  float* const memory = to_device(std::vector<float>(100, 1));
  const cublasLtMatrixLayout_t l = layout(CUDA_R_32F, 10, 10, 10);
  const float one = 1, zero = 0;
  ASSERT_EQ(cublasLtMatmul(handle_, operation_, &one, memory + 1, l, memory, l, &zero, memory, l, memory, l, nullptr,
                           nullptr, 0, stream_),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorIllegalAddress);
  EXPECT_EQ(last_fault()->hazard, Hazard::global_out_of_bounds);
}

TEST_F(CublasLt, NotInitialisedWithoutADevice) {
  const Device before = device();
  set_device({before.major, before.minor, before.multiprocessors, 0});
  cublasLtHandle_t handle;
  EXPECT_EQ(cublasLtCreate(&handle), CUBLAS_STATUS_NOT_INITIALIZED);
  set_device(before);
}

// A program that opens the library when it needs it finds it in itself.
TEST_F(CublasLt, IsFoundByName) {
  void* const itself = dlopen(nullptr, RTLD_NOW);
  ASSERT_NE(itself, nullptr);
  EXPECT_EQ(dlsym(itself, "cublasLtMatmul"), reinterpret_cast<void*>(&cublasLtMatmul));
  dlclose(itself);
}

}  // namespace
}  // namespace simt::testing
