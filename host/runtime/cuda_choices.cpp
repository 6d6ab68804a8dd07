// SPDX-License-Identifier: Apache-2.0
//
// What a GPU's plan chooses: by the model, by measuring, or by the text of another plan. The text is one line of
// key=value, in this order; all but the last three say what the choices are for, and must be those of the plan.
//
//   rewardhead_choices=1 device=NAME compute_capability=9.0 multiprocessors=132 operations=31 rows=1024 input_dim=4096
//   hidden_dim=256 members=1 input_dtype=bf16 cublaslt=0 isa=sm90a forward_splits=4 w1_splits=2
//
// cublaslt: the library's version where the choice is "cublaslt", whose algorithms follow from it; else 0.
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "host/runtime/cuda_measure.h"
#include "host/runtime/error.h"

namespace rewardhead::runtime {
namespace {

using Entries = std::vector<std::pair<std::string, std::string>>;

Entries entries_of(const CudaPlan& plan) {
  const auto number = [](auto value) { return std::to_string(value); };
  const kernels::Shape& s = plan.shape;
  return {{"rewardhead_choices", "1"},
          {"device", plan.device.name},
          {"compute_capability", number(plan.device.major) + '.' + number(plan.device.minor)},
          {"multiprocessors", number(plan.device.multiprocessors)},
          {"operations", number(plan.operations)},
          {"rows", number(s.rows)},
          {"input_dim", number(s.input)},
          {"hidden_dim", number(s.hidden)},
          {"members", number(s.members)},
          {"input_dtype", rh_dtype_name(static_cast<int>(plan.dtype))},
          {"cublaslt", number(plan.library ? plan.library->call.get_version() : 0)},
          {"isa", kCudaImplementations[plan.row].name},
          {"forward_splits", number(plan.mlp.forward_splits)},
          {"w1_splits", number(plan.mlp.w1_splits)}};
}

// The value of the entry that must come next.
std::string take(std::istringstream& text, const std::string& key) {
  std::string entry;
  text >> entry;
  if (entry.compare(0, key.size() + 1, key + '=') != 0) {
    refuse("choices has \"" + entry + "\" where " + key + "= is expected, as rh_plan_export writes it");
  }
  return entry.substr(key.size() + 1);
}

// A power of two up to `most`, or 0 where the plan splits nothing.
int splits_of(const std::string& key, const std::string& value, int most) {
  for (int splits = most > 0 ? 1 : 0; splits <= most; splits = splits ? 2 * splits : 1) {
    if (value == std::to_string(splits)) return splits;
  }
  refuse("choices has " + key + '=' + value + "; expected " +
         (most > 0 ? "a power of two up to " + std::to_string(most) : "0"));
}

CudaPlan imported(const CudaContext& context, const kernels::Shape& shape, kernels::Dtype dtype, uint32_t operations,
                  const char* choices) {
  std::istringstream text(choices);
  Entries found;
  const CudaPlan nothing = {context.device(), shape, dtype, operations, kSm80, {}, nullptr, {}};
  const Entries own = entries_of(nothing);
  for (const auto& [key, value] : own) found.push_back({key, take(text, key)});
  if (std::string more; text >> more) refuse("choices has \"" + more + "\" behind its last entry");
  constexpr size_t kIdentity = 10, kLibrary = 10, kIsa = 11, kForward = 12, kW1 = 13;
  for (size_t i = 0; i < kIdentity; ++i) {
    if (found[i].second == own[i].second) continue;
    refuse("choices is for " + found[i].first + '=' + found[i].second + "; the plan has " + own[i].second);
  }
  CudaPlan plan = plan_row(context, context.choose(found[kIsa].second), shape, dtype, operations);
  const std::string version = entries_of(plan)[kLibrary].second;
  if (found[kLibrary].second != version) {
    refuse("choices is for version " + found[kLibrary].second + " of cuBLASLt; this process has " + version);
  }
  const bool splits = shape.hidden > 0 && plan.row != kCublasLt;
  plan.mlp.forward_splits = splits_of(found[kForward].first, found[kForward].second,
                                      splits ? kernels::cuda::most_forward_splits(plan.mlp) : 0);
  plan.mlp.w1_splits =
      splits_of(found[kW1].first, found[kW1].second, splits ? kernels::cuda::most_w1_splits(plan.mlp) : 0);
  return plan;
}

}  // namespace

std::string export_choices(const CudaPlan& plan) {
  std::string line;
  for (const auto& [key, value] : entries_of(plan)) line += (line.empty() ? "" : " ") + (key + '=' + value);
  return line;
}

std::shared_ptr<const CudaPlan> make_cuda_plan(const CudaContext& context, const kernels::Shape& shape,
                                               kernels::Dtype dtype, uint32_t operations, rh_planning planning,
                                               const char* choices) {
  return std::make_shared<const CudaPlan>(
      choices                       ? imported(context, shape, dtype, operations, choices)
      : planning == RH_PLAN_MEASURE ? measured_plan(context, shape, dtype, operations)
                                    : plan_row(context, context.choose(shape, 1)[0], shape, dtype, operations));
}

}  // namespace rewardhead::runtime
