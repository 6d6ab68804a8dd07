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
  explicit rh_context(std::unique_ptr<const rewardhead::runtime::CudaContext> gpu);

  int threads() const { return executor ? executor->threads : pool.threads(); }
  const char* implementation_name() const;

  const rewardhead::runtime::Implementation* implementation = nullptr;  // null on a GPU
  std::unique_ptr<const rewardhead::runtime::CudaContext> cuda;         // null on the CPU
  std::optional<rewardhead::kernels::Executor> executor;  // the caller's; then the pool has no workers
  mutable rewardhead::runtime::ThreadPool pool;

  // What rh_context_kernel tells.
  struct KernelRow {
    const char* operation;
    const char* implementation;
    bool chosen;
    const char* reason;
  };
  int kernel_count() const;
  KernelRow kernel(int index) const;

 private:
  std::vector<std::string> reasons_;  // on the CPU, of each row of the list
};

namespace rewardhead::runtime {

// Validates the options and fills in the defaults of rh_context_options. Throws ApiError.
std::unique_ptr<rh_context> make_context(const rh_context_options* options);

}  // namespace rewardhead::runtime
