// SPDX-License-Identifier: Apache-2.0
#include "host/runtime/context.h"

#include <cstdlib>

#include "host/runtime/available_threads.h"
#include "host/runtime/error.h"

using rewardhead::runtime::ApiError;
using rewardhead::runtime::CudaImplementation;
using rewardhead::runtime::Implementation;

rh_context::rh_context(const std::string& isa, const std::string& isa_origin, int threads,
                       std::optional<rewardhead::kernels::Executor> callers)
    : implementation(&rewardhead::runtime::choose_implementation(isa, isa_origin)), executor(callers), pool(threads) {
  for (const char* operation : rewardhead::runtime::kOperations) {
    bool passed = false;
    for (const Implementation& row : rewardhead::runtime::implementations()) {
      const bool chosen = &row == implementation;
      const std::string reason = chosen          ? (isa == "auto" ? "the best that this processor runs" : "asked for")
                                 : !row.usable() ? std::string("the processor lacks one of ") + row.needs
                                 : passed        ? std::string("slower than ") + implementation->name
                                                 : std::string("another was asked for: ") + implementation->name;
      passed = passed || chosen;
      kernels.push_back({operation, row.name, chosen, reason});
    }
  }
}

rh_context::rh_context(const rewardhead::runtime::CudaDevice& device, const std::string& isa) : cuda(device), pool(1) {
  for (const char* operation : rewardhead::runtime::kCudaOperations) {
    bool passed = false;
    for (const CudaImplementation& row : rewardhead::runtime::kCudaImplementations) {
      const bool chosen = row.name == device.implementation;
      const std::string reason = chosen                ? (isa == "auto" ? "the best that this GPU runs" : "asked for")
                                 : !row.usable(device) ? std::string("the GPU lacks ") + row.needs
                                 : passed ? std::string("predicted to be slower than ") + device.implementation
                                          : std::string("another was asked for: ") + device.implementation;
      passed = passed || chosen;
      kernels.push_back({operation, row.name, chosen, reason});
    }
  }
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
      return std::make_unique<rh_context>(open_cuda(isa, options->stream), isa);
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
