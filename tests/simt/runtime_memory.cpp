// SPDX-License-Identifier: Apache-2.0
//
// The runtime's memory: allocations, copies and fills.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "tests/simt/runtime_state.h"

namespace simt {
namespace {

bool is_pinned(const void* memory) {
  const auto& pinned = runtime().host_memory;
  const char* const m = static_cast<const char*>(memory);
  auto i = pinned.upper_bound(const_cast<char*>(m));
  return i != pinned.begin() && (--i, m < i->first + i->second);
}

// Rows of `width` bytes. Pageable host memory is read before the call returns, and written, too, as CUDA has it.
cudaError_t copy(char* to, size_t to_pitch, const char* from, size_t from_pitch, size_t width, size_t height,
                 cudaMemcpyKind kind, CUstream_st& stream) {
  Runtime& r = runtime();
  if (width == 0 || height == 0) return cudaSuccess;
  const auto extent = [=](size_t pitch) { return (height - 1) * pitch + width; };
  if (width > to_pitch || width > from_pitch) return cudaErrorInvalidValue;
  const bool to_device = is_device_memory(to, extent(to_pitch));
  const bool from_device = is_device_memory(from, extent(from_pitch));
  if (is_device_memory(to, 1) != to_device || is_device_memory(from, 1) != from_device) return cudaErrorInvalidValue;
  const bool wants_to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool wants_from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  if (kind != cudaMemcpyDefault && (wants_to_device != to_device || wants_from_device != from_device)) {
    return cudaErrorInvalidValue;
  }
  if (to_device && !from_device) ++r.counts.copies_to_device;
  if (!to_device && from_device) ++r.counts.copies_to_host;
  std::vector<char> staged;
  if (!from_device && !is_pinned(from) && !stream.capture) {
    staged.resize(width * height);
    for (size_t row = 0; row < height; ++row) std::memcpy(staged.data() + row * width, from + row * from_pitch, width);
  }
  const cudaError_t error = enqueue_work(stream, [=, staged = std::move(staged)](Node&) {
    if ((to_device && !is_device_memory(to, extent(to_pitch))) ||
        (from_device && !is_device_memory(from, extent(from_pitch)))) {
      fault(Hazard::global_out_of_bounds, "copy with device memory that has been freed");
    }
    const HostAccess access;
    for (size_t row = 0; row < height; ++row) {
      std::memmove(to + row * to_pitch, staged.empty() ? from + row * from_pitch : staged.data() + row * width, width);
    }
  });
  if (error != cudaSuccess || to_device || stream.capture || is_pinned(to)) return error;
  run_queue(stream.last.get());
  return r.sticky;
}

}  // namespace
}  // namespace simt

using namespace simt;

extern "C" {

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  const Call call;
  if (!memory) return call.result(cudaErrorInvalidValue);
  if (const cudaError_t error = refuse_in_capture()) return call.result(error);
  if (Call::failed()) return call.result(cudaSuccess);
  *memory = nullptr;
  if (bytes == 0) return call.result(cudaSuccess);
  const size_t live_bytes = static_cast<size_t>(counts().live_bytes);
  *memory = bytes <= device().memory_bytes && live_bytes <= device().memory_bytes - bytes ? allocate(bytes) : nullptr;
  if (!*memory) return call.result(cudaErrorMemoryAllocation);
  runtime().device_memory[static_cast<char*>(*memory)] = bytes;
  ++runtime().counts.allocations;
  return call.result(cudaSuccess);
}
cudaError_t cudaFree(void* memory) {
  const Call call;
  if (!memory) return call.result(cudaSuccess);
  if (const cudaError_t error = refuse_in_capture()) return call.result(error);
  if (!runtime().device_memory.count(static_cast<char*>(memory))) return call.result(cudaErrorInvalidValue);
  run_queue(nullptr);
  runtime().device_memory.erase(static_cast<char*>(memory));
  simt::free(memory);
  ++runtime().counts.frees;
  return call.result(cudaSuccess);
}
cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  const Call call;
  if (!memory) return call.result(cudaErrorInvalidValue);
  if (const cudaError_t error = refuse_in_capture()) return call.result(error);
  *memory = std::malloc(std::max<size_t>(bytes, 1));
  if (!*memory) return call.result(cudaErrorMemoryAllocation);
  runtime().host_memory[static_cast<char*>(*memory)] = bytes;
  return call.result(cudaSuccess);
}
cudaError_t cudaFreeHost(void* memory) {
  const Call call;
  if (!memory) return call.result(cudaSuccess);
  if (const cudaError_t error = refuse_in_capture()) return call.result(error);
  run_queue(nullptr);
  if (runtime().host_memory.erase(static_cast<char*>(memory)) == 0) return call.result(cudaErrorInvalidValue);
  std::free(memory);
  return call.result(cudaSuccess);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, stream);
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  const Call call;
  CUstream_st* const s = find_stream(stream);
  if (!s) return call.result(cudaErrorInvalidResourceHandle);
  return call.result(
      copy(static_cast<char*>(to), to_pitch, static_cast<const char*>(from), from_pitch, width, height, kind, *s));
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const Call call;
  if (const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr)) return error;
  return call.result(synchronize(runtime().default_stream));
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  const Call call;
  CUstream_st* const s = find_stream(stream);
  if (!s) return call.result(cudaErrorInvalidResourceHandle);
  if (bytes == 0) return call.result(cudaSuccess);
  if (!is_device_memory(to, bytes)) return call.result(cudaErrorInvalidValue);
  return call.result(enqueue_work(*s, [=](Node&) {
    if (!is_device_memory(to, bytes))
      fault(Hazard::global_out_of_bounds, "memset of device memory that has been freed");
    const HostAccess access;
    std::memset(to, value, bytes);
  }));
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) { return cudaMemsetAsync(to, value, bytes, nullptr); }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  const Call call;
  if (!attributes) return call.result(cudaErrorInvalidValue);
  void* const pointer = const_cast<void*>(memory);
  *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, pointer};
  if (is_device_memory(memory, 1)) *attributes = {cudaMemoryTypeDevice, 0, pointer, nullptr};
  if (is_pinned(memory)) *attributes = {cudaMemoryTypeHost, 0, pointer, pointer};
  return call.result(cudaSuccess);
}

}  // extern "C"
