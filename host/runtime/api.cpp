// SPDX-License-Identifier: Apache-2.0
//
// The C boundary: exceptions become a status and a message of the calling thread.
#include <cstddef>
#include <cstring>
#include <new>
#include <string>
#include <system_error>
#include <utility>

#include "host/runtime/context.h"
#include "host/runtime/dispatch.h"
#include "host/runtime/error.h"
#include "host/runtime/plan.h"
#include "rewardhead/rewardhead.h"

namespace runtime = rewardhead::runtime;
using runtime::require;

namespace {

// A fixed buffer: reporting that memory ran out must not need any.
thread_local char last_message[512];

rh_status fail(rh_status status, const char* message) {
  size_t length = 0;
  for (; message[length] && length + 1 < sizeof last_message; ++length) last_message[length] = message[length];
  last_message[length] = '\0';
  return status;
}

template <class Body>
rh_status guarded(const Body& body) {
  try {
    body();
    return RH_OK;
  } catch (const runtime::ApiError& error) {
    return fail(error.status(), error.what());
  } catch (const std::bad_alloc&) {
    return fail(RH_OUT_OF_MEMORY, "out of memory");
  } catch (const std::system_error& error) {
    return fail(RH_OUT_OF_MEMORY, error.what());  // no thread could be started
  } catch (const std::exception& error) {
    return fail(RH_INTERNAL_ERROR, error.what());
  } catch (...) {
    return fail(RH_INTERNAL_ERROR, "unknown error");
  }
}

template <size_t count>
const char* name_at(const char* const (&names)[count], int index) {
  return index >= 0 && index < static_cast<int>(count) ? names[index] : nullptr;
}

const rh_plan& checked(const rh_plan* plan) {
  require(plan, "plan is NULL");
  return *plan;
}

}  // namespace

extern "C" {

const char* rh_version(void) { return REWARDHEAD_VERSION; }

const char* rh_status_string(rh_status status) {
  switch (runtime::integer(status)) {
    case RH_OK:
      return "success";
    case RH_INVALID_ARGUMENT:
      return "invalid argument";
    case RH_UNSUPPORTED:
      return "unsupported on this build or machine";
    case RH_OUT_OF_MEMORY:
      return "out of memory or threads";
    case RH_INTERNAL_ERROR:
      return "internal error";
    case RH_DEVICE_ERROR:
      return "CUDA refused a call, or work before it failed";
  }
  return "unknown status";
}

const char* rh_last_error_message(void) { return last_message; }

const char* rh_dtype_name(int index) {
  static constexpr const char* names[] = {"f32", "f16", "bf16"};
  return name_at(names, index);
}
const char* rh_device_name(int index) {
  static constexpr const char* names[] = {"auto", "cpu", "cuda"};
  return name_at(names, index);
}
const char* rh_objective_name(int index) {
  static constexpr const char* names[] = {"bradley-terry"};
  return name_at(names, index);
}
const char* rh_isa_name(int index) {
  const auto& names = runtime::isa_names();
  return index >= 0 && index < static_cast<int>(names.size()) ? names[index] : nullptr;
}

rh_status rh_context_create(const rh_context_options* options, rh_context** context) {
  return guarded([&] {
    require(context, "context is NULL");
    *context = runtime::make_context(options).release();
  });
}
void rh_context_destroy(rh_context* context) { delete context; }
int rh_context_threads(const rh_context* context) { return context ? context->threads() : 0; }
const char* rh_context_isa(const rh_context* context) { return context ? context->implementation_name() : ""; }
rh_device rh_context_device(const rh_context* context) {
  if (!context) return RH_DEVICE_AUTO;
  return context->cuda ? RH_DEVICE_CUDA : RH_DEVICE_CPU;
}
int rh_context_kernel_count(const rh_context* context) {
  return context ? context->kernel_count() : 0;
}
rh_status rh_context_kernel(const rh_context* context, int index, rh_kernel_info* info) {
  return guarded([&] {
    require(context, "context is NULL");
    require(info, "info is NULL");
    if (info->struct_size != sizeof *info) {
      runtime::refuse("info->struct_size is " + std::to_string(info->struct_size) + "; expected " +
                      std::to_string(sizeof *info));
    }
    runtime::require_range("index", index, 0, rh_context_kernel_count(context) - 1);
    const rh_context::KernelRow row = context->kernel(index);
    *info = {sizeof *info, row.operation, row.implementation, row.chosen, row.reason};
  });
}

rh_status rh_plan_create(const rh_context* context, const rh_plan_options* options, rh_plan** plan) {
  return guarded([&] {
    require(context, "context is NULL");
    require(options, "options is NULL");
    require(plan, "plan is NULL");
    // Before `planning` was added the struct ended there.
    if (options->struct_size != sizeof *options && options->struct_size != offsetof(rh_plan_options, planning)) {
      runtime::refuse("options->struct_size is " + std::to_string(options->struct_size) + "; expected " +
                      std::to_string(sizeof *options));
    }
    rh_plan_options all = {};
    std::memcpy(&all, options, options->struct_size);
    *plan = new rh_plan(context, all);
  });
}
void rh_plan_destroy(rh_plan* plan) { delete plan; }
rh_status rh_plan_export(const rh_plan* plan, char* text, size_t* bytes) {
  return guarded([&] {
    require(bytes, "bytes is NULL");
    const std::string line = runtime::exported(checked(plan));
    const size_t room = std::exchange(*bytes, line.size() + 1);
    if (!text) return;
    if (room < *bytes) {
      runtime::refuse("*bytes is " + std::to_string(room) + "; the text needs " + std::to_string(*bytes));
    }
    std::memcpy(text, line.c_str(), *bytes);
  });
}
size_t rh_plan_workspace_bytes(const rh_plan* plan) { return plan ? plan->workspace_bytes : 0; }

size_t rh_plan_mask_bytes(const rh_plan* plan) { return plan ? plan->mask_bytes : 0; }

size_t rh_plan_mask_offset(const rh_plan* plan) { return plan ? plan->mask_offset : 0; }

rh_status rh_forward(const rh_plan* plan, const rh_matrix* x, const rh_tensors* parameters, float* rewards,
                     rh_workspace workspace) {
  return guarded([&] { runtime::forward(checked(plan), x, parameters, rewards, workspace); });
}
rh_status rh_pair_loss(const rh_plan* plan, const float* rewards, int64_t rows, const rh_pairs* pairs,
                       double normalizer, float* loss, float* reward_gradient, rh_workspace workspace) {
  return guarded(
      [&] { runtime::pair_loss(checked(plan), rewards, rows, pairs, normalizer, loss, reward_gradient, workspace); });
}
rh_status rh_bad_pairs(const rh_plan* plan, rh_workspace workspace, int* found) {
  return guarded([&] {
    require(found, "found is NULL");
    *found = runtime::bad_pairs(checked(plan), workspace);
  });
}
rh_status rh_backward(const rh_plan* plan, const rh_matrix* x, const rh_tensors* parameters,
                      const float* reward_gradient, const rh_tensors* gradients, float* input_gradient,
                      int64_t input_gradient_stride, rh_workspace workspace) {
  return guarded([&] {
    runtime::backward(checked(plan), x, parameters, reward_gradient, gradients, input_gradient, input_gradient_stride,
                      workspace);
  });
}
rh_status rh_adamw(const rh_plan* plan, const rh_adamw_options* options, const rh_tensors* parameters,
                   const rh_tensors* gradients, const rh_tensors* first_moments, const rh_tensors* second_moments,
                   float* gradient_norm, rh_workspace workspace) {
  return guarded([&] {
    runtime::adamw(checked(plan), options, parameters, gradients, first_moments, second_moments, gradient_norm,
                   workspace);
  });
}
rh_status rh_loss_gradients(const rh_plan* plan, const rh_loss_arguments* arguments, rh_workspace workspace) {
  return guarded([&] { runtime::loss_gradients(checked(plan), arguments, workspace); });
}
rh_status rh_train_step(const rh_plan* plan, const rh_train_arguments* arguments, rh_workspace workspace) {
  return guarded([&] { runtime::train_step(checked(plan), arguments, workspace); });
}

}  // extern "C"
