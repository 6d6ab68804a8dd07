// SPDX-License-Identifier: Apache-2.0
//
// Devices, launches of kernels, errors and tensor maps.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "tests/simt/machine.h"
#include "tests/simt/runtime_state.h"

namespace simt {

cudaError_t error_of(Hazard hazard) {
  switch (hazard) {
    case Hazard::global_out_of_bounds:
    case Hazard::shared_out_of_bounds:
      return cudaErrorIllegalAddress;
    case Hazard::misaligned_access:
      return cudaErrorMisalignedAddress;
    case Hazard::occupancy:
      return cudaErrorInvalidConfiguration;
    case Hazard::deadlock:
    case Hazard::divergent_barrier:
    case Hazard::register_budget:
      return cudaErrorLaunchTimeout;
    default:
      return cudaErrorLaunchFailure;
  }
}

namespace {

struct ErrorText {
  cudaError_t error;
  const char *name, *text;
};
constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidDevicePointer, "cudaErrorInvalidDevicePointer", "invalid device pointer"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorIllegalState, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
    {cudaErrorSymbolNotFound, "cudaErrorSymbolNotFound", "named symbol not found"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureMerge, "cudaErrorStreamCaptureMerge",
     "operation would result in a merge of separate capture sequences"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
};
const ErrorText* find_error(cudaError_t error) {
  for (const ErrorText& e : kErrors) {
    if (e.error == error) return &e;
  }
  return nullptr;
}

// What cuTensorMapEncodeTiled asks of its arguments, and of those only matrices of 2-byte elements with the 128-byte
// swizzle.
CUresult encode_tiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* base, const cuuint64_t* sizes,
                      const cuuint64_t* strides, const cuuint32_t* box, const cuuint32_t* steps,
                      CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                      CUtensorMapFloatOOBfill) {
  const bool two_bytes = type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 || type == CU_TENSOR_MAP_DATA_TYPE_FLOAT16 ||
                         type == CU_TENSOR_MAP_DATA_TYPE_UINT16;
  if (device().major < 9 || !map || reinterpret_cast<uintptr_t>(map) % 64 || rank != 2 || !two_bytes ||
      interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || swizzle != CU_TENSOR_MAP_SWIZZLE_128B) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (int i = 0; i < 2; ++i) {
    if (sizes[i] == 0 || sizes[i] > uint64_t{1} << 32 || box[i] == 0 || box[i] > 256 || steps[i] != 1) {
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  if (reinterpret_cast<uintptr_t>(base) % 16 || strides[0] % 16 || strides[0] >= uint64_t{1} << 40 ||
      strides[0] < sizes[0] * 2 || box[0] * 2 > 128 || box[0] * 2 % 16) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const TensorMap made = tensor_map(base, sizes[0], sizes[1], strides[0], box[0], box[1]);
  std::memcpy(map, &made, sizeof made);
  return CUDA_SUCCESS;
}

cudaError_t no_device() {
  return device().count == 0 || device().old_driver ? cudaErrorInsufficientDriver : cudaSuccess;
}

cudaError_t refuse(const Fault& f) {
  runtime().fault = f;
  std::fprintf(stderr, "software device: %s\n", f.what());
  return error_of(f.hazard);
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, void** arguments) {
  Runtime& r = runtime();
  const auto found = r.kernels.find(kernel);
  if (found == r.kernels.end()) return cudaErrorInvalidDeviceFunction;
  CUstream_st* const stream = find_stream(config.stream);
  if (!stream) return cudaErrorInvalidResourceHandle;
  if (config.gridDim.y != 1 || config.gridDim.z != 1 || config.blockDim.y != 1 || config.blockDim.z != 1) {
    return refuse(Fault(Hazard::occupancy, "occupancy: grids and blocks of this device have one dimension"));
  }
  Launch l;
  l.blocks = config.gridDim.x;
  l.threads = config.blockDim.x;
  l.shared_bytes = static_cast<uint32_t>(config.dynamicSmemBytes);
  bool programmatic = false;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    const cudaLaunchAttributeValue& v = config.attrs[i].val;
    switch (config.attrs[i].id) {
      case cudaLaunchAttributeClusterDimension:
        if (v.clusterDim.y != 1 || v.clusterDim.z != 1) return cudaErrorInvalidConfiguration;
        l.cluster = v.clusterDim.x;
        break;
      case cudaLaunchAttributeProgrammaticStreamSerialization:
        programmatic = v.programmaticStreamSerializationAllowed != 0;
        if (programmatic && device().major < 9) return cudaErrorNotSupported;
        break;
      default:
        return cudaErrorInvalidValue;
    }
  }
  if (config.dynamicSmemBytes > static_cast<size_t>(found->second.max_shared_bytes)) {
    refuse(
        Fault(Hazard::occupancy, "occupancy: more dynamic shared memory than cudaFuncSetAttribute allowed the kernel"));
    return cudaErrorInvalidValue;
  }
  try {
    Launch checked = l;
    check_launch(checked);
  } catch (const Fault& f) {
    return refuse(f);
  }
  auto node = std::make_shared<Node>();
  node->kernel = true;
  if (programmatic && stream->waits.empty() && stream->last && stream->last->kernel) node->predecessor = stream->last;
  // By value, as the driver does.
  const char* const first = static_cast<const char*>(arguments[0]);
  const auto parameters = std::make_shared<AlignedBytes>(first, found->second.parameter_bytes);
  node->work = [l, kernel, parameters, call = found->second.call](Node& self) {
    Launch now = l;
    now.schedule = runtime().schedule;
    now.seed = runtime().random_state++;
    if (const Node* const p = self.predecessor.get()) {
      now.unfinished_since = p->unfinished_since ? p->unfinished_since : p->launch_number;
    }
    self.unfinished_since = now.unfinished_since;
    self.launch_number = run(now, [&] { call(kernel, parameters->data()); });
    self.predecessor.reset();
  };
  ++r.counts.launches;
  return enqueue(*stream, std::move(node));
}

}  // namespace
}  // namespace simt

using namespace simt;

void soft_register_kernel(const void* kernel, size_t parameter_bytes, void (*call)(const void*, const void*)) {
  const Call locked;
  Kernel& k = runtime().kernels[kernel];
  k.parameter_bytes = parameter_bytes;
  k.call = call;
}

extern "C" {

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  const Call call;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return call.result(cudaErrorInvalidValue);
  if (value < 0 || static_cast<uint32_t>(value) > limits().shared_per_block) return call.result(cudaErrorInvalidValue);
  const auto found = runtime().kernels.find(kernel);
  if (found == runtime().kernels.end()) return call.result(cudaErrorInvalidDeviceFunction);
  found->second.max_shared_bytes = value;
  return call.result(cudaSuccess);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel, void** arguments) {
  const Call call;
  if (!config || !kernel || !arguments) return call.result(cudaErrorInvalidValue);
  if (Call::failed()) return call.result(cudaSuccess);
  return call.result(launch(*config, kernel, arguments));
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel, int threads,
                                                          size_t shared_bytes) {
  const Call call;
  if (!blocks || threads <= 0) return call.result(cudaErrorInvalidValue);
  if (!runtime().kernels.count(kernel)) return call.result(cudaErrorInvalidDeviceFunction);
  Launch l;  // the kernel's registers are not known here, and so do not count
  l.threads = static_cast<uint32_t>(threads);
  l.shared_bytes = static_cast<uint32_t>(shared_bytes);
  *blocks = static_cast<int>(blocks_per_multiprocessor(l));
  return call.result(cudaSuccess);
}

// ---- Devices

cudaError_t cudaGetDeviceCount(int* count) {
  const Call call;
  if (!count) return call.result(cudaErrorInvalidValue);
  if (const cudaError_t error = no_device()) return call.result(error);  // *count stays as it was, as CUDA has it
  *count = device().count;
  return call.result(cudaSuccess);
}
cudaError_t cudaGetDevice(int* ordinal) {
  const Call call;
  if (const cudaError_t error = no_device()) return call.result(error);
  *ordinal = 0;
  return call.result(cudaSuccess);
}
cudaError_t cudaSetDevice(int ordinal) {
  const Call call;
  if (const cudaError_t error = no_device()) return call.result(error);
  return call.result(ordinal >= 0 && ordinal < device().count ? cudaSuccess : cudaErrorInvalidDevice);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int ordinal) {
  const Call call;
  if (const cudaError_t error = no_device()) return call.result(error);
  if (!properties || ordinal < 0 || ordinal >= device().count) return call.result(cudaErrorInvalidDevice);
  cudaDeviceProp p = {};
  std::snprintf(p.name, sizeof p.name, "rewardhead software device");
  std::memcpy(p.uuid.bytes, "software device", sizeof p.uuid.bytes);
  p.totalGlobalMem = device().memory_bytes;
  p.sharedMemPerBlock = 48 << 10;
  p.sharedMemPerBlockOptin = limits().shared_per_block;
  p.sharedMemPerMultiprocessor = limits().shared_per_multiprocessor;
  p.reservedSharedMemPerBlock = limits().shared_reserved_per_block;
  p.major = device().major;
  p.minor = device().minor;
  p.multiProcessorCount = device().multiprocessors;
  p.warpSize = 32;
  p.maxThreadsPerBlock = static_cast<int>(limits().threads_per_block);
  p.maxThreadsPerMultiProcessor = static_cast<int>(limits().threads_per_multiprocessor);
  p.maxBlocksPerMultiProcessor = static_cast<int>(limits().blocks_per_multiprocessor);
  p.regsPerBlock = p.regsPerMultiprocessor = static_cast<int>(limits().registers_per_multiprocessor);
  p.l2CacheSize = 50 << 20;
  p.memoryBusWidth = 5120;
  *properties = p;
  return call.result(cudaSuccess);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int ordinal) {
  const Call call;
  cudaDeviceProp p;
  if (const cudaError_t error = cudaGetDeviceProperties(&p, ordinal)) return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = p.maxThreadsPerBlock;
      break;
    case cudaDevAttrClockRate:
      *value = 1980000;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      break;
    case cudaDevAttrMemoryClockRate:
      *value = 2619000;
      break;
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = p.memoryBusWidth;
      break;
    case cudaDevAttrL2CacheSize:
      *value = p.l2CacheSize;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = p.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(p.sharedMemPerMultiprocessor);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *value = p.maxBlocksPerMultiProcessor;
      break;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      *value = static_cast<int>(p.reservedSharedMemPerBlock);
      break;
    default:
      return call.result(cudaErrorInvalidValue);
  }
  return call.result(cudaSuccess);
}
cudaError_t cudaDriverGetVersion(int* version) {
  const Call call;
  *version = device().count == 0 ? 0 : device().old_driver ? 12040 : CUDART_VERSION;
  return call.result(cudaSuccess);
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const Call call;
  *total_bytes = device().memory_bytes;
  *free_bytes = *total_bytes - std::min(*total_bytes, static_cast<size_t>(counts().live_bytes));
  return call.result(cudaSuccess);
}

// ---- Errors

const char* cudaGetErrorName(cudaError_t error) {
  const ErrorText* const found = find_error(error);
  return found ? found->name : "unrecognized error code";
}
const char* cudaGetErrorString(cudaError_t error) {
  const ErrorText* const found = find_error(error);
  return found ? found->text : "unrecognized error code";
}
cudaError_t cudaPeekAtLastError(void) {
  const Call call;
  return runtime().last_error;
}
cudaError_t cudaGetLastError(void) {
  const Call call;
  const cudaError_t error = runtime().last_error;
  runtime().last_error = runtime().sticky;
  return error;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned int, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  const Call call;
  const bool found = symbol && std::strcmp(symbol, "cuTensorMapEncodeTiled") == 0;
  *function = found ? reinterpret_cast<void*>(&encode_tiled) : nullptr;
  if (result) *result = found ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return call.result(found ? cudaSuccess : cudaErrorSymbolNotFound);
}

}  // extern "C"
