// SPDX-License-Identifier: Apache-2.0
//
// Plans of a GPU that measure, and choices that are exported and imported. The software device's time is its own, so
// which candidate is kept is tested with a stopwatch that makes times up.
#include <cstddef>
#include <map>
#include <string>

#include "host/runtime/cuda_measure.h"
#include "host/runtime/error.h"
#include "tests/host/cuda/on_device.h"

namespace rewardhead::runtime::testing {
namespace {

constexpr Size kSize = {40, 512, 20, 30, 1};  // its sums are worth splitting on a large GPU

std::string choices_of(const Plan& plan) {
  size_t bytes = 0;
  EXPECT_EQ(rh_plan_export(plan.get(), nullptr, &bytes), RH_OK) << rh_last_error_message();
  std::string text(bytes, 'x');
  EXPECT_EQ(rh_plan_export(plan.get(), text.data(), &bytes), RH_OK) << rh_last_error_message();
  EXPECT_EQ(text.back(), '\0');
  text.pop_back();
  return text;
}

std::string value_of(const std::string& choices, const std::string& key) {
  const size_t begin = (" " + choices).find(" " + key + "=");
  if (begin == std::string::npos) return "no " + key;
  const size_t value = begin + key.size() + 1;
  return choices.substr(value, choices.find(' ', value) - value);
}
std::string with(const std::string& choices, const std::string& key, const std::string& value) {
  std::string changed = choices;
  const std::string old = key + "=" + value_of(choices, key);
  return changed.replace(changed.find(old), old.size(), key + "=" + value);
}

class CudaPlanning : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    simt::Device large;
    large.multiprocessors = 132;
    simt::set_device(large);
  }
  std::string refusal(const Context& context, const rh_plan_options& options, rh_status expected) {
    rh_plan* plan = nullptr;
    const rh_status status = rh_plan_create(context.get(), &options, &plan);
    rh_plan_destroy(plan);
    EXPECT_EQ(status, expected) << rh_last_error_message();
    return status == RH_OK ? "" : rh_last_error_message();
  }
  std::vector<float> results(const Plan& plan) {
    const DeviceWorkspace memory(plan.get(), stream_);
    Head step(kSize);
    OnDevice device(step, stream_);
    EXPECT_EQ(step.call(loss_gradients, plan.get(), memory.get()), RH_OK) << rh_last_error_message();
    device.fetch();
    return step.outputs();
  }
};

TEST_F(CudaPlanning, ChoicesGiveTheSameBits) {
  rh_plan_options options = options_of(kSize);
  std::map<std::string, std::vector<float>> by_splits;
  for (const char* isa : kIsas) {
    const Context gpu = open(isa), any = open();
    const Plan plan = make_plan(gpu.get(), options);
    const std::string choices = choices_of(plan);
    EXPECT_EQ(value_of(choices, "isa"), isa);
    EXPECT_EQ(value_of(choices, "rows"), "40");
    EXPECT_EQ(value_of(choices, "compute_capability"), "9.0");
    EXPECT_EQ(value_of(choices, "multiprocessors"), "132");
    EXPECT_EQ(value_of(choices, "cublaslt"), isa == std::string("cublaslt") ? "130000" : "0");
    rh_plan_options again = options;
    again.choices = choices.c_str();
    again.planning = RH_PLAN_MEASURE;  // has been done
    const simt::Counts before = simt::counts();
    const Plan imported = make_plan(any.get(), again);
    EXPECT_LT(simt::counts().launches - before.launches, 60) << "the check, no more";
    EXPECT_EQ(choices_of(imported), choices);
    EXPECT_TRUE(same_bits(results(imported), results(plan))) << choices;
  }
  // A sum that is split otherwise has other bits, so what is imported is what is used.
  const Context gpu = open("sm80");
  const std::string choices = choices_of(make_plan(gpu.get(), options));
  ASSERT_GT(std::stoi(value_of(choices, "forward_splits")), 1) << choices;
  const std::string whole = with(choices, "forward_splits", "1");
  rh_plan_options other = options;
  other.choices = whole.c_str();
  EXPECT_FALSE(same_bits(results(make_plan(gpu.get(), other)), results(make_plan(gpu.get(), options))));
}

TEST_F(CudaPlanning, ChoicesForSomethingElseAreRefused) {
  const Context gpu = open();
  rh_plan_options options = options_of(kSize);
  const std::string choices = choices_of(make_plan(gpu.get(), options));
  const struct {
    std::string text, says;
  } cases[] = {
      {with(choices, "rows", "41"), "choices is for rows=41; the plan has 40"},
      {with(choices, "input_dtype", "bf16"), "choices is for input_dtype=bf16; the plan has f32"},
      {with(choices, "multiprocessors", "108"), "choices is for multiprocessors=108; the plan has 132"},
      {with(choices, "device", "NVIDIA_A100"), "choices is for device=NVIDIA_A100; the plan has "},
      {with(choices, "rewardhead_choices", "2"), "choices is for rewardhead_choices=2; the plan has 1"},
      {with(choices, "operations", "1"), "choices is for operations=1; the plan has "},
      {with(choices, "isa", "avx2"), "choices has isa=avx2; the context's isa is \"auto\""},
      {with(choices, "isa", "cublaslt"), "choices is for version 0 of cuBLASLt; this process has 130000"},
      {with(choices, "forward_splits", "3"), "choices has forward_splits=3; expected a power of two up to 8"},
      {with(choices, "forward_splits", "16"), "choices has forward_splits=16; expected a power of two up to 8"},
      {with(choices, "w1_splits", "0"), "choices has w1_splits=0; expected a power of two"},
      {choices + " more=1", "choices has \"more=1\" behind its last entry"},
      {"", "choices has \"\" where rewardhead_choices= is expected"},
      {"{}", "choices has \"{}\" where rewardhead_choices= is expected"},
      {choices.substr(0, choices.find(" isa=")), "choices has \"\" where isa= is expected"},
  };
  for (const auto& [text, says] : cases) {
    options.choices = text.c_str();
    const std::string said = refusal(gpu, options, RH_INVALID_ARGUMENT);
    EXPECT_NE(said.find(says), std::string::npos) << said << "\nexpected: " << says;
  }
  options.choices = choices.c_str();
  const std::string said = refusal(open("sm80"), options, RH_INVALID_ARGUMENT);
  EXPECT_NE(said.find("choices has isa=sm90a; the context's isa is \"sm80\""), std::string::npos) << said;
  simt::Device broken;
  broken.multiprocessors = 132;
  broken.broken_wgmma = true;
  simt::set_device(broken);
  EXPECT_NE(refusal(open(), options, RH_UNSUPPORTED).find("sm90a does not work here: failed the check"),
            std::string::npos);
}

// Made-up times, by implementation and number of parts of the forward and of the backward.
TEST_F(CudaPlanning, TheFastestIsKept) {
  const CudaContext context("auto", stream_);
  const kernels::Shape shape = {40, 512, 20, 0, true, 1};
  const uint32_t operations = RH_FORWARD | RH_BACKWARD | RH_INPUT_GRADIENT;
  bool runs = true;  // the first time: it is all the same to the others
  const auto measure = [&](const std::map<std::string, double>& special) {
    std::map<std::string, int> seen;
    const CudaPlan plan =
        measured_plan(context, shape, kernels::Dtype::f32, operations,
                      [&](const CudaPlan& candidate, bool backward, const std::function<void()>& run) {
                        if (runs) run();
                        check(cudaStreamSynchronize(candidate.stream()));
                        const int splits = backward ? candidate.mlp.w1_splits : candidate.mlp.forward_splits;
                        const std::string name = kCudaImplementations[candidate.row].name +
                                                 std::string(backward ? " w1 " : " forward ") + std::to_string(splits);
                        EXPECT_EQ(++seen[name], 1) << name;
                        const auto found = special.find(name);
                        return found == special.end() ? 100.0 : found->second;
                      });
    EXPECT_TRUE(seen.count("cublaslt forward 0") && seen.count("cublaslt w1 0"));
    EXPECT_GT(seen.size(), 8u) << "splits were varied";
    runs = false;
    return std::string(kCudaImplementations[plan.row].name) + ' ' + std::to_string(plan.mlp.forward_splits) + ' ' +
           std::to_string(plan.mlp.w1_splits);
  };
  const auto model = [&](CudaRow row) { return plan_row(context, row, shape, kernels::Dtype::f32, operations).mlp; };
  const auto splits = [&](CudaRow row) {
    return ' ' + std::to_string(model(row).forward_splits) + ' ' + std::to_string(model(row).w1_splits);
  };
  EXPECT_EQ(measure({}), "sm90a" + splits(kSm90a)) << "of equals the one that the model prefers";
  EXPECT_EQ(measure({{"cublaslt forward 0", 20}}), "cublaslt 0 0");
  const int half = model(kSm80).forward_splits / 2;
  ASSERT_GE(half, 1);
  EXPECT_EQ(measure({{"sm80 forward " + std::to_string(half), 20}, {"cublaslt forward 0", 30}}),
            "sm80 " + std::to_string(half) + ' ' + std::to_string(model(kSm80).w1_splits));
  EXPECT_EQ(measure({{"sm80 forward " + std::to_string(half), 20}, {"cublaslt w1 0", 10}}), "cublaslt 0 0");
}

TEST_F(CudaPlanning, AFaultWhileMeasuringEndsIt) {
  const CudaContext context("auto", stream_);
  const kernels::Shape shape = {40, 512, 20, 0, false, 1};
  EXPECT_EQ(context.choose(shape, kCudaRows).size(), 3u) << "all pass while the device is sound";
  simt::Device faulting;
  faulting.multiprocessors = 132;
  faulting.faulting_mma = true;
  simt::set_device(faulting);
  try {
    measured_plan(context, shape, kernels::Dtype::f32, RH_FORWARD);
    ADD_FAILURE() << "sm90a's forward was measured, but sm80's has faulted";
  } catch (const ApiError& error) {
    const std::string said = error.what();
    EXPECT_EQ(error.status(), RH_DEVICE_ERROR);
    EXPECT_EQ(said.compare(0, 6, "sm80: "), 0) << said;
    EXPECT_NE(said.find("cudaErrorLaunchFailure"), std::string::npos) << said;
    EXPECT_NE(said.find("CUDA can do nothing more in this process"), std::string::npos) << said;
    try {
      context.choose(shape, 1);
      ADD_FAILURE() << "the context forgot it";
    } catch (const ApiError& again) {
      EXPECT_EQ(again.status(), RH_DEVICE_ERROR);
      EXPECT_EQ(again.what(), said);
    }
  }
}

TEST_F(CudaPlanning, MeasuringLeavesNothingBehind) {
  const Context gpu = open();
  rh_plan_options options = options_of({8, 24, 5, 4, 2});
  options.planning = RH_PLAN_MEASURE;
  const simt::Counts before = simt::counts();
  const Plan plan = make_plan(gpu.get(), options);
  const simt::Counts after = simt::counts();
  EXPECT_GT(after.allocations, before.allocations);
  EXPECT_EQ(after.live_allocations, before.live_allocations);
  EXPECT_EQ(after.live_streams, before.live_streams);
  EXPECT_EQ(after.live_events, before.live_events);
  const std::string isa = value_of(choices_of(plan), "isa");
  EXPECT_TRUE(isa == "sm90a" || isa == "sm80" || isa == "cublaslt") << isa;
  // Without a backward, no mask is left for it.
  rh_plan_options scoring = plan_options(8, 24, 5, 0, RH_FORWARD);
  scoring.planning = RH_PLAN_MEASURE;
  scoring.input_dtype = RH_BF16;
  make_plan(gpu.get(), scoring);
  // Nothing to measure: a linear head, and pairs alone.
  for (rh_plan_options simple : {options_of({8, 24, 0, 4, 1}), plan_options(8, 0, 0, 4, RH_PAIR_LOSS)}) {
    simple.planning = RH_PLAN_MEASURE;
    EXPECT_EQ(value_of(choices_of(make_plan(gpu.get(), simple)), "forward_splits"), "0");
  }
}

TEST_F(CudaPlanning, TheModelPrefersCublasLtForLargeHeadsOnCapability10) {
  simt::set_device({10, 0, 148});
  const Context gpu = open();
  EXPECT_STREQ(rh_context_isa(gpu.get()), "sm80");
  const auto isa = [&](int64_t rows) {
    return value_of(choices_of(make_plan(gpu.get(), plan_options(rows, 1024, 512, 1))), "isa");
  };
  EXPECT_EQ(isa(64), "sm80");
  EXPECT_EQ(isa(4096), "cublaslt");
}

TEST_F(CudaPlanning, StructsOfOlderProgramsAreServed) {
  const Context gpu = open();
  rh_plan_options options = options_of(kSize);
  options.struct_size = offsetof(rh_plan_options, planning);
  EXPECT_EQ(options.struct_size, 72u);
  set_enum(options.planning, 77);  // not theirs
  options.choices = "neither";
  EXPECT_EQ(refusal(gpu, options, RH_OK), "");
}

}  // namespace
}  // namespace rewardhead::runtime::testing
