// SPDX-License-Identifier: Apache-2.0
//
// Prints what include/ declares, by its names. Compiled with CUDA's own headers, it must print the same.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdio>

namespace {

template <class Function>
void print_signature(const char* name) {
  std::printf("%s %s\n", name, __PRETTY_FUNCTION__);
}

#define VALUE(name) std::printf(#name " %lld\n", static_cast<long long>(name))
#define FUNCTION(name) print_signature<decltype(name)>(#name)

void print_values() {
  VALUE(CUDA_SUCCESS), VALUE(CUDA_ERROR_INVALID_VALUE);
  VALUE(CU_TENSOR_MAP_DATA_TYPE_UINT16), VALUE(CU_TENSOR_MAP_DATA_TYPE_FLOAT16);
  VALUE(CU_TENSOR_MAP_DATA_TYPE_FLOAT32), VALUE(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16);
  VALUE(CU_TENSOR_MAP_INTERLEAVE_NONE), VALUE(CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  VALUE(CU_TENSOR_MAP_SWIZZLE_NONE), VALUE(CU_TENSOR_MAP_SWIZZLE_32B);
  VALUE(CU_TENSOR_MAP_SWIZZLE_64B), VALUE(CU_TENSOR_MAP_SWIZZLE_128B);
  VALUE(CU_TENSOR_MAP_L2_PROMOTION_NONE), VALUE(CU_TENSOR_MAP_L2_PROMOTION_L2_64B);
  VALUE(CU_TENSOR_MAP_L2_PROMOTION_L2_128B), VALUE(CU_TENSOR_MAP_L2_PROMOTION_L2_256B);
  VALUE(sizeof(CUtensorMap)), VALUE(alignof(CUtensorMap));

  VALUE(cudaSuccess), VALUE(cudaErrorInvalidValue), VALUE(cudaErrorMemoryAllocation);
  VALUE(cudaErrorInvalidConfiguration), VALUE(cudaErrorInvalidDevicePointer), VALUE(cudaErrorInvalidMemcpyDirection);
  VALUE(cudaErrorInsufficientDriver), VALUE(cudaErrorInvalidDeviceFunction), VALUE(cudaErrorNoDevice);
  VALUE(cudaErrorInvalidDevice), VALUE(cudaErrorInvalidResourceHandle), VALUE(cudaErrorIllegalState);
  VALUE(cudaErrorSymbolNotFound), VALUE(cudaErrorNotReady), VALUE(cudaErrorIllegalAddress);
  VALUE(cudaErrorLaunchTimeout), VALUE(cudaErrorMisalignedAddress), VALUE(cudaErrorLaunchFailure);
  VALUE(cudaErrorNotSupported), VALUE(cudaErrorStreamCaptureUnsupported), VALUE(cudaErrorStreamCaptureInvalidated);
  VALUE(cudaErrorStreamCaptureMerge), VALUE(cudaErrorStreamCaptureUnmatched), VALUE(cudaErrorStreamCaptureUnjoined);
  VALUE(cudaErrorStreamCaptureIsolation), VALUE(cudaErrorStreamCaptureImplicit), VALUE(cudaErrorUnknown);

  VALUE(cudaDevAttrMaxThreadsPerBlock), VALUE(cudaDevAttrClockRate), VALUE(cudaDevAttrMultiProcessorCount);
  VALUE(cudaDevAttrMemoryClockRate), VALUE(cudaDevAttrGlobalMemoryBusWidth), VALUE(cudaDevAttrL2CacheSize);
  VALUE(cudaDevAttrMaxThreadsPerMultiProcessor), VALUE(cudaDevAttrComputeCapabilityMajor);
  VALUE(cudaDevAttrComputeCapabilityMinor), VALUE(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
  VALUE(cudaDevAttrMaxSharedMemoryPerBlockOptin), VALUE(cudaDevAttrMaxBlocksPerMultiprocessor);
  VALUE(cudaDevAttrReservedSharedMemoryPerBlock);

  VALUE(cudaStreamDefault), VALUE(cudaStreamNonBlocking), VALUE(cudaEventDefault), VALUE(cudaEventDisableTiming);
  VALUE(cudaMemcpyHostToHost), VALUE(cudaMemcpyHostToDevice), VALUE(cudaMemcpyDeviceToHost);
  VALUE(cudaMemcpyDeviceToDevice), VALUE(cudaMemcpyDefault);
  VALUE(cudaMemoryTypeUnregistered), VALUE(cudaMemoryTypeHost), VALUE(cudaMemoryTypeDevice);
  VALUE(cudaMemoryTypeManaged);
  VALUE(cudaFuncAttributeMaxDynamicSharedMemorySize), VALUE(cudaLaunchAttributeClusterDimension);
  VALUE(cudaLaunchAttributeProgrammaticStreamSerialization), VALUE(sizeof(cudaLaunchAttributeValue));
  VALUE(cudaStreamCaptureModeGlobal), VALUE(cudaStreamCaptureModeThreadLocal), VALUE(cudaStreamCaptureModeRelaxed);
  VALUE(cudaStreamCaptureStatusNone), VALUE(cudaStreamCaptureStatusActive), VALUE(cudaStreamCaptureStatusInvalidated);
  VALUE(cudaEnableDefault), VALUE(cudaDriverEntryPointSuccess), VALUE(cudaDriverEntryPointSymbolNotFound);
}

void print_functions() {
  FUNCTION(cudaGetErrorName), FUNCTION(cudaGetErrorString), FUNCTION(cudaGetLastError), FUNCTION(cudaPeekAtLastError);
  FUNCTION(cudaGetDeviceCount), FUNCTION(cudaGetDevice), FUNCTION(cudaSetDevice), FUNCTION(cudaGetDeviceProperties);
  FUNCTION(cudaDeviceGetAttribute), FUNCTION(cudaDeviceSynchronize), FUNCTION(cudaDriverGetVersion);
  FUNCTION(cudaRuntimeGetVersion), FUNCTION(cudaMemGetInfo);
  FUNCTION(cudaStreamCreate), FUNCTION(cudaStreamCreateWithFlags), FUNCTION(cudaStreamDestroy);
  FUNCTION(cudaStreamSynchronize), FUNCTION(cudaStreamQuery), FUNCTION(cudaStreamWaitEvent);
  FUNCTION(cudaEventCreate), FUNCTION(cudaEventCreateWithFlags), FUNCTION(cudaEventDestroy), FUNCTION(cudaEventRecord);
  FUNCTION(cudaEventSynchronize), FUNCTION(cudaEventQuery), FUNCTION(cudaEventElapsedTime);
  FUNCTION(cudaMalloc), FUNCTION(cudaFree), FUNCTION(cudaMallocHost), FUNCTION(cudaFreeHost), FUNCTION(cudaMemcpy);
  FUNCTION(cudaMemcpyAsync), FUNCTION(cudaMemcpy2DAsync), FUNCTION(cudaMemset), FUNCTION(cudaMemsetAsync);
  FUNCTION(cudaPointerGetAttributes), FUNCTION(cudaFuncSetAttribute), FUNCTION(cudaLaunchKernelExC);
  FUNCTION(cudaOccupancyMaxActiveBlocksPerMultiprocessor), FUNCTION(cudaStreamBeginCapture);
  FUNCTION(cudaStreamEndCapture), FUNCTION(cudaStreamIsCapturing), FUNCTION(cudaGraphInstantiate);
  FUNCTION(cudaGraphLaunch), FUNCTION(cudaGraphDestroy), FUNCTION(cudaGraphExecDestroy);
  FUNCTION(cudaGetDriverEntryPointByVersion);
}

}  // namespace

int main() {
  print_values();
  print_functions();
}
