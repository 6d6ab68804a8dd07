// SPDX-License-Identifier: Apache-2.0
#include "host/python/bindings/machine.h"

#include <pthread.h>

#include <map>
#include <mutex>

namespace rewardhead::python {
namespace {

struct Contexts {
  std::mutex mutex;
  std::map<int, Context> by_threads;
};

Contexts* contexts = nullptr;  // never destroyed: a thread may still compute while the process ends

}  // namespace

const Context& context(int threads) {
  static std::once_flag once;
  std::call_once(once, [] {
    contexts = new Contexts;
    pthread_atfork(nullptr, nullptr, [] { contexts = new Contexts; });  // the parent's may be locked
  });
  const std::lock_guard lock(contexts->mutex);
  const auto found = contexts->by_threads.find(threads);
  if (found != contexts->by_threads.end()) return found->second;
  return contexts->by_threads.emplace(threads, Context({.threads = threads})).first->second;
}

rh_workspace workspace(const rh_plan* plan) {
  struct Memory {
    std::byte* data = nullptr;
    size_t bytes = 0;
    ~Memory() { ::operator delete[](data, std::align_val_t{RH_ALIGNMENT}); }
  };
  thread_local Memory memory;
  const size_t bytes = rh_plan_workspace_bytes(plan);
  if (memory.bytes < bytes) {
    ::operator delete[](std::exchange(memory.data, nullptr), std::align_val_t{RH_ALIGNMENT});
    memory.bytes = 0;
    memory.data = new (std::align_val_t{RH_ALIGNMENT}) std::byte[bytes];
    memory.bytes = bytes;
  }
  return {memory.data, memory.bytes};
}

}  // namespace rewardhead::python
