// SPDX-License-Identifier: Apache-2.0
//
// The C interface on a GPU, or on the software device, measured by the results of the same calls on the CPU.
#include <bit>
#include <cmath>

#include "tests/host/cuda/on_device.h"

namespace rewardhead::runtime::testing {
namespace {

using CudaExecute = CudaTest;

constexpr Size kSizes[] = {{8, 5, 3, 4, 1},      {130, 70, 100, 300, 1}, {2, 1, 1, 1, 1},   {300, 33, 0, 1500, 1},
                           {65, 200, 7, 40, 1},  {66, 40, 20, 90, 3},    {40, 24, 0, 30, 2}};

constexpr Call kApart[] = {forward, pair_loss, backward, adamw};

// Largest differences relative to the largest magnitude of an array, for tensors of all of a set's: db2 of pairs is 0 but
// for rounding. Two planes of bfloat16 carry 16 bits of an operand; rewards of 20 and more then differ by what changes
// the slope of their pairs, and all gradients with it, by 5e-5.
void expect_near(const char* name, const std::vector<float>& actual, const std::vector<float>& expected) {
  constexpr double kBound = 1e-4;
  double largest = 0;
  for (const float e : expected) largest = std::max(largest, std::abs(double{e}));
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], kBound * largest) << name << '[' << i << ']';
  }
}

std::vector<float> all_of(const Tensors& t) {
  std::vector<float> all;
  for (const auto* list : {&t.w1, &t.b1, &t.w2, &t.b2}) all.insert(all.end(), list->begin(), list->end());
  return all;
}

void expect_same(const Step& actual, const Step& expected) {
  expect_near("rewards", actual.reward_data, expected.reward_data);
  expect_near("reward_gradient", actual.reward_gradient_data, expected.reward_gradient_data);
  expect_near("loss", actual.loss_data, expected.loss_data);
  expect_near("input_gradient", actual.input_gradient_data, expected.input_gradient_data);
  expect_near("gradient_norm", actual.gradient_norm_data, expected.gradient_norm_data);
  const std::pair<const Tensors*, const Tensors*> sets[] = {{&actual.gradient_data, &expected.gradient_data},
                                                            {&actual.parameter_data, &expected.parameter_data},
                                                            {&actual.first_data, &expected.first_data},
                                                            {&actual.second_data, &expected.second_data}};
  for (const auto& [a, e] : sets) {
    expect_near("tensors", all_of(*a), all_of(*e));
  }
}

TEST_F(CudaExecute, EveryCallAgreesWithTheCpu) {
  const Context cpu = make_context();
  for (const char* isa : isas()) {
    const Context gpu = open(isa);
    for (const Size& size : kSizes) {
      for (const rh_dtype dtype : {RH_F32, RH_BF16}) {
        SCOPED_TRACE(::testing::Message() << isa << ' ' << size.rows << ' ' << rh_dtype_name(dtype));
        rh_plan_options options = options_of(size);
        options.input_dtype = dtype;
        const Plan plan = make_plan(gpu.get(), options), cpu_plan = make_plan(cpu.get(), options);
        Head a(size), b(size);
        std::vector<float>& x = a.x_data;
        if (dtype == RH_BF16) {  // two of which fit where one fp32 number was
          const std::vector<float> wide = x;
          for (size_t i = 0; i < wide.size(); ++i) {
            reinterpret_cast<unsigned short*>(x.data())[i] =
                static_cast<unsigned short>(std::bit_cast<uint32_t>(wide[i]) >> 16);
          }
        }
        b.x_data = x;
        OnDevice device(a, stream_);
        const DeviceWorkspace memory(plan.get(), stream_);
        const WorkspaceMemory cpu_memory(cpu_plan.get());
        for (const Call call : kApart) {
          ASSERT_EQ(a.call(call, plan.get(), memory.get()), RH_OK) << rh_last_error_message();
          ASSERT_EQ(b.call(call, cpu_plan.get(), cpu_memory.get()), RH_OK) << rh_last_error_message();
        }
        device.fetch();
        expect_same(a, b);
      }
    }
  }
}

TEST_F(CudaExecute, OneCallGivesTheBitsOfItsParts) {
  std::vector<Context> all;
  for (const char* isa : isas()) all.push_back(open(isa));
  for (const Size& size : kSizes) {
    for (const bool adjacent : {false, true}) {
      for (const Call whole : {loss_gradients, train}) {
        // Each meets each in some size.
        const Context& gpu = all[(size.rows + adjacent + (whole == train)) % all.size()];
        const Plan plan = make_plan(gpu.get(), options_of(size));
        const DeviceWorkspace memory(plan.get(), stream_);
        Head together(size, adjacent), apart(size, adjacent);
        if (whole == train) together.input_gradient = apart.input_gradient = nullptr;
        OnDevice a(together, stream_), b(apart, stream_);
        ASSERT_EQ(together.call(whole, plan.get(), memory.get()), RH_OK) << rh_last_error_message();
        for (const Call call : kApart) {
          if (call == adamw && whole != train) continue;
          ASSERT_EQ(apart.call(call, plan.get(), memory.get()), RH_OK) << rh_last_error_message();
        }
        a.fetch();
        b.fetch();
        EXPECT_TRUE(same_bits(together.outputs(), apart.outputs())) << size.rows << ' ' << adjacent << ' ' << whole;
      }
    }
  }
}

TEST_F(CudaExecute, StepsOnlyEnqueueAndReplayFromAGraph) {
  const char* const last = isas().back();  // the composed chain, if it is there
  for (const auto& [isa, size] : {std::pair{"auto", kSizes[3]}, {"auto", kSizes[4]}, {last, kSizes[5]}}) {
    const Context gpu = open(isa);
    const Plan plan = make_plan(gpu.get(), options_of(size));
    DeviceWorkspace memory(plan.get(), stream_);
    Head step(size);
    const Head start(size);
    OnDevice device(step, stream_);
    check(cudaStreamSynchronize(stream_));

#if REWARDHEAD_SIMT
    const simt::Counts before = simt::counts();
#endif
    ASSERT_EQ(step.call(train, plan.get(), memory.get()), RH_OK) << rh_last_error_message();
#if REWARDHEAD_SIMT
    const simt::Counts after = simt::counts();
    EXPECT_GT(after.launches, before.launches);
    EXPECT_EQ(after.allocations, before.allocations);
    EXPECT_EQ(after.synchronizations, before.synchronizations);
    EXPECT_EQ(after.copies_to_host, before.copies_to_host);
    EXPECT_EQ(after.copies_to_device, before.copies_to_device);
#endif
    device.fetch();
    const std::vector<float> expected = step.outputs();

    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    ASSERT_EQ(step.call(train, plan.get(), memory.get()), RH_OK) << rh_last_error_message();
    check(cudaStreamEndCapture(stream_, &graph));
    check(cudaGraphInstantiate(&executable, graph, 0));
    for (int replay = 0; replay < 2; ++replay) {
      step.parameter_data = start.parameter_data;
      step.first_data = start.first_data;
      step.second_data = start.second_data;
      std::fill(step.gradient_data.w1.begin(), step.gradient_data.w1.end(), NAN);
      device.set();
      memory.poison();
      check(cudaGraphLaunch(executable, stream_));
      device.fetch();
      EXPECT_TRUE(same_bits(step.outputs(), expected)) << "replay " << replay;
    }
    check(cudaGraphExecDestroy(executable));
    check(cudaGraphDestroy(graph));
  }
}

TEST_F(CudaExecute, BadPairsAreSkippedAndFlagged) {
  const Context gpu = open();
  const Size size = {8, 5, 3, 4, 1};
  const Plan plan = make_plan(gpu.get(), options_of(size));
  const DeviceWorkspace memory(plan.get(), stream_);
  int found = -1;
  Head good(size);
  good.pairs.count = 2;
  good.normalizer = 4;
  OnDevice good_device(good, stream_);
  ASSERT_EQ(good.call(loss_gradients, plan.get(), memory.get()), RH_OK) << rh_last_error_message();
  ASSERT_EQ(rh_bad_pairs(plan.get(), memory.get(), &found), RH_OK) << rh_last_error_message();
  EXPECT_EQ(found, 0);

  Head bad(size);
  bad.chosen[2] = 8;
  bad.rejected[3] = bad.chosen[3];
  OnDevice bad_device(bad, stream_);
  ASSERT_EQ(bad.call(loss_gradients, plan.get(), memory.get()), RH_OK) << rh_last_error_message();
  ASSERT_EQ(rh_bad_pairs(plan.get(), memory.get(), &found), RH_OK) << rh_last_error_message();
  EXPECT_EQ(found, 1);
  good_device.fetch();
  bad_device.fetch();
  EXPECT_TRUE(same_bits(good.outputs(), bad.outputs()));  // as without the two

  ASSERT_EQ(good.call(pair_loss, plan.get(), memory.get()), RH_OK) << rh_last_error_message();
  ASSERT_EQ(rh_bad_pairs(plan.get(), memory.get(), &found), RH_OK) << rh_last_error_message();
  EXPECT_EQ(found, 0) << "of the last loss only";

  const Context cpu = make_context();
  const Plan cpu_plan = make_plan(cpu.get(), options_of(size));
  found = -1;
  ASSERT_EQ(rh_bad_pairs(cpu_plan.get(), WorkspaceMemory(cpu_plan.get()).get(), &found), RH_OK);
  EXPECT_EQ(found, 0) << "the CPU refuses them";
}

TEST_F(CudaExecute, HostMemoryIsRefused) {
  const Context gpu = open();
  const Size size = kSizes[0];
  const Plan plan = make_plan(gpu.get(), options_of(size));
  const DeviceWorkspace memory(plan.get(), stream_);
  Head step(size);
  const Head host(size);
  const OnDevice device(step, stream_);
  alignas(RH_CUDA_ALIGNMENT) static char host_memory[1];

  const auto refuse_each = [&](const char* name, auto& pointer, auto* on_host, unsigned calls) {
    const auto kept = pointer;
    pointer = on_host;
    for (const Call call : {forward, pair_loss, backward, adamw, train, loss_gradients}) {
      if (!(calls & call)) continue;
      expect_refused(step.call(call, plan.get(), memory.get()), RH_INVALID_ARGUMENT,
                     (std::string(name) + " is host memory; the plan's device is GPU 0").c_str());
    }
    pointer = kept;
  };
  const unsigned whole = train | loss_gradients;
  refuse_each("x->data", step.x.data, static_cast<const void*>(host.x_data.data()), forward | backward | whole);
  refuse_each("pairs->chosen", step.pairs.chosen, host.chosen.data(), pair_loss | whole);
  refuse_each("pairs->rejected", step.pairs.rejected, host.rejected.data(), pair_loss | whole);
  refuse_each("pairs->margin", step.pairs.margin, host.margin.data(), pair_loss | whole);
  refuse_each("pairs->weight", step.pairs.weight, host.weight.data(), pair_loss | whole);
  refuse_each("pairs->label", step.pairs.label, host.label.data(), pair_loss | whole);
  refuse_each("parameters->w2", step.parameters.w2, host.parameters.w2, forward | backward | adamw | whole);
  refuse_each("gradients->b2", step.gradients.b2, host.gradients.b2, backward | adamw | whole);
  refuse_each("first_moments->w1", step.first_moments.w1, host.first_moments.w1, adamw | train);
  refuse_each("second_moments->b1", step.second_moments.b1, host.second_moments.b1, adamw | train);
  refuse_each("rewards", step.rewards, host.rewards, forward | pair_loss | whole);
  refuse_each("reward_gradient", step.reward_gradient, host.reward_gradient, pair_loss | backward | whole);
  refuse_each("input_gradient", step.input_gradient, host.input_gradient, backward | loss_gradients);
  refuse_each("loss", step.loss, host.loss, pair_loss | whole);
  refuse_each("gradient_norm", step.gradient_norm, host.gradient_norm, adamw | train);
  const size_t bytes = rh_plan_workspace_bytes(plan.get());
  expect_refused(step.call(forward, plan.get(), {host_memory, bytes}), RH_INVALID_ARGUMENT,
                 "workspace.data is host memory");
  expect_refused(step.call(forward, plan.get(), {static_cast<char*>(memory.get().data) + RH_ALIGNMENT, bytes}),
                 RH_INVALID_ARGUMENT, "workspace.data is not aligned to 256 bytes");
  expect_refused(step.call(forward, plan.get(), {memory.get().data, bytes - 1}), RH_INVALID_ARGUMENT,
                 "workspace.bytes is");
}

TEST_F(CudaExecute, ACpuPlanRefusesDeviceMemory) {
  const Context gpu = open(), cpu = make_context();
  const Plan plan = make_plan(cpu.get(), options_of(kSizes[0]));
  const WorkspaceMemory memory(plan.get());
  Head step(kSizes[0]);
  const OnDevice device(step, stream_);
  expect_refused(step.call(forward, plan.get(), memory.get()), RH_INVALID_ARGUMENT,
                 "x->data is memory of a GPU; the plan's device is the CPU");
  expect_refused(step.call(pair_loss, plan.get(), memory.get()), RH_INVALID_ARGUMENT,
                 "rewards is memory of a GPU; the plan's device is the CPU");
}

}  // namespace
}  // namespace rewardhead::runtime::testing
