// SPDX-License-Identifier: Apache-2.0
#include "host/python/bindings/machine.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
#if REWARDHEAD_HAS_CUDA
#include <cuda_runtime_api.h>
#endif

#include <atomic>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <utility>

namespace rewardhead::python {
namespace {

struct Contexts {
  std::mutex mutex;
  std::map<int, Context> by_threads;
  std::map<std::pair<int, void*>, Context> by_stream;
};

Contexts* contexts = nullptr;  // never destroyed: a thread may still compute while the process ends

// The context of that key, or what make() returns.
template <class Key, class Make>
const Context& found_or_made(std::map<Key, Context> Contexts::*of_kind, const Key& key, const Make& make) {
  static std::once_flag once;
  std::call_once(once, [] {
    contexts = new Contexts;
    pthread_atfork(nullptr, nullptr, [] { contexts = new Contexts; });  // the parent's may be locked
  });
  const std::lock_guard lock(contexts->mutex);
  auto& known = contexts->*of_kind;
  const auto found = known.find(key);
  return found != known.end() ? found->second : known.emplace(key, make()).first->second;
}

#if REWARDHEAD_HAS_CUDA
void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  throw Error(RH_DEVICE_ERROR, std::string(what) + ": " + cudaGetErrorName(error) + ", " + cudaGetErrorString(error));
}
#endif

}  // namespace

const Context& context(int threads) {
  return found_or_made(&Contexts::by_threads, threads, [&] { return Context({.threads = threads}); });
}

#if REWARDHEAD_HAS_CUDA

const Context& context(int gpu, void* stream) {
  return found_or_made(&Contexts::by_stream, std::pair{gpu, stream}, [&] {
    int current = 0;  // a context is made for the current device
    check(cudaGetDevice(&current), "cudaGetDevice");
    struct Restore {
      int device;
      ~Restore() { cudaSetDevice(device); }
    } const restore{current};
    check(cudaSetDevice(gpu), "cudaSetDevice");
    return Context({.device = RH_DEVICE_CUDA, .stream = stream});
  });
}

void copy_on_gpu(void* stream, void* to, const void* from, size_t bytes) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(stream)),
        "cudaMemcpyAsync");
}

#else

[[noreturn]] static void refuse_gpu() {
  throw Error(RH_UNSUPPORTED, "this build of rewardhead has no CUDA kernels");
}
const Context& context(int, void*) { refuse_gpu(); }
void copy_on_gpu(void*, void*, const void*, size_t) { refuse_gpu(); }

#endif

rh_workspace workspace(size_t bytes) {
  struct Memory {
    std::byte* data = nullptr;
    size_t bytes = 0;
    ~Memory() { ::operator delete[](data, std::align_val_t{RH_ALIGNMENT}); }
  };
  thread_local Memory memory;
  if (memory.bytes < bytes) {
    ::operator delete[](std::exchange(memory.data, nullptr), std::align_val_t{RH_ALIGNMENT});
    memory.bytes = 0;
    memory.data = new (std::align_val_t{RH_ALIGNMENT}) std::byte[bytes];
    memory.bytes = bytes;
  }
  return {memory.data, memory.bytes};
}

namespace {

// Stands in front of the memory.
struct alignas(RH_ALIGNMENT) Block {
  size_t bytes;
};

std::atomic<Block*> kept_block = nullptr;

void end(Block* block) noexcept { ::operator delete(block, std::align_val_t{RH_ALIGNMENT}); }

}  // namespace

void* large_memory(size_t bytes) {
  Block* block = kept_block.exchange(nullptr);
  if (!block || block->bytes != bytes) {
    end(block);
    block = new (::operator new(sizeof(Block) + bytes, std::align_val_t{RH_ALIGNMENT})) Block{bytes};
  }
  return block + 1;
}

void give_back(void* memory) noexcept { end(kept_block.exchange(static_cast<Block*>(memory) - 1)); }

void expect_writes(void* memory, size_t bytes) {
  if (bytes < kLarge) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t first = (address + page - 1) / page * page, end = (address + bytes) / page * page;
  madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
}

}  // namespace rewardhead::python
