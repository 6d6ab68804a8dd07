// SPDX-License-Identifier: Apache-2.0
#include "host/runtime/context.h"

#include <cstdlib>

#include "host/runtime/available_threads.h"
#include "host/runtime/error.h"

using rewardhead::runtime::ApiError;
using rewardhead::runtime::CudaContext;
using rewardhead::runtime::CudaRow;
using rewardhead::runtime::Implementation;
using rewardhead::runtime::implementations;
using rewardhead::runtime::kCudaImplementations;
using rewardhead::runtime::kCudaOperations;
using rewardhead::runtime::kCudaRows;
using rewardhead::runtime::kHasCuda;
using rewardhead::runtime::kOperations;

rh_context::rh_context(const std::string& isa, const std::string& isa_origin, int threads,
                       std::optional<rewardhead::kernels::Executor> callers)
    : implementation(&rewardhead::runtime::choose_implementation(isa, isa_origin)), executor(callers), pool(threads) {
  bool passed = false;
  for (const Implementation& row : implementations()) {
    const bool chosen = &row == implementation;
    reasons_.push_back(chosen          ? (isa == "auto" ? "the best that this processor runs" : "asked for")
                       : !row.usable() ? std::string("the processor lacks one of ") + row.needs
                       : passed        ? std::string("slower than ") + implementation->name
                                       : std::string("another was asked for: ") + implementation->name);
    passed = passed || chosen;
  }
}

rh_context::rh_context(std::unique_ptr<const CudaContext> gpu) : cuda(std::move(gpu)), pool(1) {}

const char* rh_context::implementation_name() const {
  if constexpr (kHasCuda) {
    if (cuda) return kCudaImplementations[cuda->row()].name;
  }
  return implementation->name;
}

int rh_context::kernel_count() const {
  return static_cast<int>(cuda ? std::size(kCudaOperations) * kCudaRows : std::size(kOperations) * reasons_.size());
}

rh_context::KernelRow rh_context::kernel(int index) const {
  if constexpr (kHasCuda) {
    if (cuda) {
      const CudaRow row = static_cast<CudaRow>(index % kCudaRows);
      return {kCudaOperations[index / kCudaRows], kCudaImplementations[row].name, row == cuda->row(),
              cuda->reason(row)};
    }
  }
  const int rows = static_cast<int>(reasons_.size()), row = index % rows;
  const Implementation& own = implementations()[row];
  return {kOperations[index / rows], own.name, &own == implementation, reasons_[row].c_str()};
}

namespace rewardhead::runtime {

std::unique_ptr<rh_context> make_context(const rh_context_options* options) {
  rh_device device = RH_DEVICE_AUTO;
  std::string isa = "auto";
  std::string origin = "isa";
  int threads = 0;
  std::optional<kernels::Executor> executor;
  if (options) {
    if (options->struct_size != sizeof *options) {
      refuse("options->struct_size is " + std::to_string(options->struct_size) + "; expected " +
             std::to_string(sizeof *options));
    }
    require_range("device", integer(options->device), 0, integer(RH_DEVICE_CUDA));
    require_range("threads", options->threads, 0, 1024);
    device = options->device;
    threads = options->threads;
    if (const rh_executor* callers = options->executor) {
      require_range("executor->threads", callers->threads, 1, 1024);
      if (!callers->run) refuse("executor->run is NULL");
      if (threads != 0) refuse("threads is " + std::to_string(threads) + "; with an executor it is 0");
      threads = 1;
      executor = {callers->threads, callers->self, callers->run};
    }
  }
  if (device == RH_DEVICE_CUDA) {
    if (executor) refuse("executor is given, but the device is cuda, which uses no threads");
    if constexpr (kHasCuda) {
      if (options->isa) isa = options->isa;
      return std::make_unique<rh_context>(std::make_unique<const CudaContext>(isa, options->stream));
    }
    throw ApiError(RH_UNSUPPORTED, "device is cuda: this build has no CUDA kernels");
  }
  if (options && options->stream) refuse("stream is given, but the device is not cuda");
  if (options && options->isa) {
    isa = options->isa;
  } else if (const char* variable = std::getenv("REWARDHEAD_ISA"); variable && *variable) {
    isa = variable;
    origin = "the environment variable REWARDHEAD_ISA";
  }
  return std::make_unique<rh_context>(isa, origin, threads ? threads : available_threads(), executor);
}

}  // namespace rewardhead::runtime
