// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/runtime/cuda.h"
#include "host/runtime/dispatch.h"
#include "host/runtime/thread_pool.h"
#include "rewardhead/rewardhead.h"

struct rh_context {
  // On the CPU. With an executor, `threads` is 1.
  rh_context(const std::string& isa, const std::string& isa_origin, int threads,
             std::optional<rewardhead::kernels::Executor> executor);
  // On a GPU.
  explicit rh_context(const rewardhead::runtime::CudaDevice& device, const std::string& isa);

  int threads() const { return executor ? executor->threads : pool.threads(); }
  const char* implementation_name() const { return cuda ? cuda->implementation : implementation->name; }

  const rewardhead::runtime::Implementation* implementation = nullptr;  // null on a GPU
  std::optional<rewardhead::runtime::CudaDevice> cuda;
  std::optional<rewardhead::kernels::Executor> executor;  // the caller's; then the pool has no workers
  mutable rewardhead::runtime::ThreadPool pool;

  struct KernelRow {
    const char* operation;
    const char* implementation;
    bool chosen;
    std::string reason;
  };
  std::vector<KernelRow> kernels;  // what rh_context_kernel tells
};

namespace rewardhead::runtime {

// Validates the options and fills in the defaults of rh_context_options. Throws ApiError.
std::unique_ptr<rh_context> make_context(const rh_context_options* options);

}  // namespace rewardhead::runtime
