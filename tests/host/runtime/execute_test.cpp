// SPDX-License-Identifier: Apache-2.0
//
// Executes through the C interface. That the kernels compute the right thing is tests/kernels' matter; here it is that
// the right ones run, on the right memory, alone and together.
#include <cmath>
#include <thread>

#include "tests/host/runtime/step.h"

namespace rewardhead::runtime::testing {
namespace {

std::vector<float> run_all(const rh_plan* plan, Step& step, const rh_workspace& workspace) {
  for (const Call which : {forward, pair_loss, backward, adamw}) {
    EXPECT_EQ(step.call(which, plan, workspace), RH_OK) << rh_last_error_message();
  }
  return step.outputs();
}

struct Size {
  int64_t rows, input, hidden, pairs;
};
constexpr Size kSizes[] = {{8, 5, 3, 4}, {130, 70, 100, 300}, {2, 1, 1, 1}, {300, 33, 0, 1500}, {65, 200, 7, 40}};

TEST(Execute, EveryImplementationAgreesWithTheReference) {
  const Context reference = make_context(1, "reference");
  for (int i = 1; rh_isa_name(i); ++i) {
    const rh_context_options options = {sizeof options, RH_DEVICE_CPU, rh_isa_name(i), 2};
    rh_context* created = nullptr;
    const rh_status status = rh_context_create(&options, &created);
    if (status == RH_UNSUPPORTED) continue;  // context_test.cpp says what must then be
    ASSERT_EQ(status, RH_OK);
    const Context context(created);
    for (const Size& size : kSizes) {
      const rh_plan_options plan_of = plan_options(size.rows, size.input, size.hidden, size.pairs);
      const Plan plan = make_plan(context.get(), plan_of), exact_plan = make_plan(reference.get(), plan_of);
      Step a(size.rows, size.input, size.hidden, size.pairs), b(size.rows, size.input, size.hidden, size.pairs);
      a.options.epsilon = b.options.epsilon = 1e-2;  // smooth around gradients of 0
      const std::vector<float> results = run_all(plan.get(), a, WorkspaceMemory(plan.get()).get());
      const std::vector<float> exact = run_all(exact_plan.get(), b, WorkspaceMemory(exact_plan.get()).get());
      for (size_t k = 0; k < exact.size(); ++k) {
        ASSERT_NEAR(results[k], exact[k], 1e-4 * (1 + std::abs(exact[k]))) << rh_isa_name(i) << ' ' << k;
      }
    }
  }
}

TEST(Execute, TrainStepEqualsTheFourCalls) {
  for (const int threads : {1, 3}) {
    const Context context = make_context(threads);
    for (const Size& size : kSizes) {
      for (const double clip : {0.0, 0.01, 1e6}) {
        const Plan plan =
            make_plan(context.get(), plan_options(size.rows, size.input, size.hidden, size.pairs, RH_TRAIN));
        const WorkspaceMemory memory(plan.get());
        Step together(size.rows, size.input, size.hidden, size.pairs);
        Step apart(size.rows, size.input, size.hidden, size.pairs);
        apart.input_gradient = nullptr;
        for (int number = 1; number <= 3; ++number) {
          together.options.step = apart.options.step = number;
          together.options.clip_norm = apart.options.clip_norm = clip;
          ASSERT_EQ(together.call(train, plan.get(), memory.get()), RH_OK) << rh_last_error_message();
          run_all(plan.get(), apart, memory.get());
          EXPECT_TRUE(same_bits(together.outputs(), apart.outputs())) << "step " << number;
        }
      }
    }
  }
}

TEST(Execute, SameBitsForAnyThreads) {
  for (const Size& size : kSizes) {
    std::vector<float> first;
    for (const int threads : {1, 2, 3, 7}) {
      const Context context = make_context(threads);
      EXPECT_EQ(rh_context_threads(context.get()), threads);
      const Plan plan = make_plan(context.get(), plan_options(size.rows, size.input, size.hidden, size.pairs));
      Step step(size.rows, size.input, size.hidden, size.pairs);
      const std::vector<float> results = run_all(plan.get(), step, WorkspaceMemory(plan.get()).get());
      if (first.empty()) first = results;
      EXPECT_TRUE(same_bits(results, first)) << threads << " threads";
    }
  }
}

// A plan serves every smaller call, bit for bit as its own plan would.
TEST(Execute, PlansForMoreRowsAndPairs) {
  const Context context = make_context(2);
  for (const Size& size : kSizes) {
    const Plan exact = make_plan(context.get(), plan_options(size.rows, size.input, size.hidden, size.pairs));
    const Plan larger =
        make_plan(context.get(), plan_options(size.rows + 500, size.input, size.hidden, size.pairs + 2000));
    Step a(size.rows, size.input, size.hidden, size.pairs), b(size.rows, size.input, size.hidden, size.pairs);
    EXPECT_TRUE(same_bits(run_all(exact.get(), a, WorkspaceMemory(exact.get()).get()),
                          run_all(larger.get(), b, WorkspaceMemory(larger.get()).get())));
  }
}

TEST(Execute, ConcurrentOnOnePlan) {
  const Context context = make_context(3);
  const Size size = {130, 70, 100, 300};
  const Plan plan = make_plan(context.get(), plan_options(size.rows, size.input, size.hidden, size.pairs));
  Step alone(size.rows, size.input, size.hidden, size.pairs);
  const std::vector<float> expected = run_all(plan.get(), alone, WorkspaceMemory(plan.get()).get());
  std::vector<std::thread> callers;
  std::atomic<int> equal{0};
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      const WorkspaceMemory memory(plan.get());
      for (int repeat = 0; repeat < 10; ++repeat) {
        Step step(size.rows, size.input, size.hidden, size.pairs);
        equal += same_bits(run_all(plan.get(), step, memory.get()), expected);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(equal, 40);
}

// rh_forward's mask waits for rh_backward, whatever else the plan executes in between.
TEST(Execute, OtherExecutesLeaveTheMask) {
  const Context context = make_context(2);
  const Plan plan = make_plan(context.get(), plan_options(130, 70, 100, 300));
  const WorkspaceMemory memory(plan.get());
  Step plain(130, 70, 100, 300), between(130, 70, 100, 300), other(130, 70, 100, 300, 9);
  for (Step* step : {&plain, &between}) {
    ASSERT_EQ(step->call(forward, plan.get(), memory.get()), RH_OK);
    ASSERT_EQ(step->call(pair_loss, plan.get(), memory.get()), RH_OK);
    if (step == &between) {
      for (float& reward : other.reward_data) reward = 1;
      ASSERT_EQ(other.call(pair_loss, plan.get(), memory.get()), RH_OK);
      ASSERT_EQ(other.call(adamw, plan.get(), memory.get()), RH_OK);
    }
    ASSERT_EQ(step->call(backward, plan.get(), memory.get()), RH_OK);
  }
  EXPECT_TRUE(same_bits(plain.outputs(), between.outputs()));
}

TEST(Execute, NormalizerZeroIsTheNumberOfPairs) {
  const Context context = make_context();
  const Plan plan = make_plan(context.get(), plan_options(8, 5, 3, 6));
  const WorkspaceMemory memory(plan.get());
  Step step(8, 5, 3, 6);
  ASSERT_EQ(step.call(forward, plan.get(), memory.get()), RH_OK);
  const auto loss = [&](double normalizer) {
    step.normalizer = normalizer;
    EXPECT_EQ(step.call(pair_loss, plan.get(), memory.get()), RH_OK);
    return step.loss_data;
  };
  EXPECT_EQ(loss(0), loss(6));
  EXPECT_FLOAT_EQ(loss(0), loss(1) / 6);
}

TEST(Execute, OptionalOutputs) {
  const Context context = make_context();
  const Plan plan = make_plan(context.get(), plan_options(8, 5, 3, 4));
  const WorkspaceMemory memory(plan.get());
  Step full(8, 5, 3, 4), bare(8, 5, 3, 4);
  run_all(plan.get(), full, memory.get());
  ASSERT_EQ(bare.call(forward, plan.get(), memory.get()), RH_OK);
  std::vector<float> gradient(8);
  ASSERT_EQ(bare.call(pair_loss, plan.get(), memory.get()), RH_OK);
  std::swap(gradient, bare.reward_gradient_data);
  bare.reward_gradient = nullptr;
  ASSERT_EQ(bare.call(pair_loss, plan.get(), memory.get()), RH_OK);
  EXPECT_EQ(bare.loss_data, full.loss_data);
  bare.reward_gradient = gradient.data();
  bare.input_gradient = nullptr;
  bare.gradient_norm = nullptr;
  ASSERT_EQ(bare.call(backward, plan.get(), memory.get()), RH_OK);
  ASSERT_EQ(bare.call(adamw, plan.get(), memory.get()), RH_OK);
  EXPECT_EQ(bare.parameter_data.w1, full.parameter_data.w1);
  EXPECT_EQ(bare.gradient_data.w1, full.gradient_data.w1);
  EXPECT_EQ(bare.gradient_norm_data, 0);
}

TEST(Execute, LeadingDimensions) {
  const Context context = make_context();
  const Plan plan = make_plan(context.get(), plan_options(20, 5, 3, 30));
  const WorkspaceMemory memory(plan.get());
  Step dense(20, 5, 3, 30), wide(20, 5, 3, 30);
  run_all(plan.get(), dense, memory.get());
  std::vector<float> x(20 * 9, NAN), dx(20 * 7, 77);
  for (int64_t i = 0; i < 100; ++i) x[i / 5 * 9 + i % 5] = wide.x_data[i];
  wide.x = {x.data(), 20, 9};
  wide.input_gradient = dx.data();
  wide.input_gradient_stride = 7;
  run_all(plan.get(), wide, memory.get());
  for (int64_t i = 0; i < 140; ++i) {
    EXPECT_EQ(dx[i], i % 7 < 5 ? dense.input_gradient_data[i / 7 * 5 + i % 7] : 77) << i;
  }
  wide.input_gradient_data = dense.input_gradient_data;
  EXPECT_TRUE(same_bits(wide.outputs(), dense.outputs()));
}

// The same small integers in each storage type.
TEST(Execute, StorageTypes) {
  const Context context = make_context();
  const uint16_t half[] = {0xc000, 0xbc00, 0x0000, 0x3c00, 0x4000};   // -2 .. 2 in binary16
  const uint16_t brain[] = {0xc000, 0xbf80, 0x0000, 0x3f80, 0x4000};  // and in bfloat16
  std::vector<std::vector<float>> results;
  for (const rh_dtype dtype : {RH_F32, RH_F16, RH_BF16}) {
    rh_plan_options options = plan_options(20, 5, 3, 30);
    options.input_dtype = dtype;
    const Plan plan = make_plan(context.get(), options);
    Step step(20, 5, 3, 30);
    std::vector<uint16_t> narrow(100);
    const uint16_t* values = dtype == RH_F16 ? half : brain;
    for (int i = 0; i < 100; ++i) {
      const int index = i * i % 5;
      step.x_data[i] = static_cast<float>(index - 2);
      narrow[i] = values[index];
    }
    if (dtype != RH_F32) step.x.data = narrow.data();
    results.push_back(run_all(plan.get(), step, WorkspaceMemory(plan.get()).get()));
  }
  EXPECT_TRUE(same_bits(results[0], results[1]));
  EXPECT_TRUE(same_bits(results[0], results[2]));
}

// At step 1 from zero moments AdamW moves by the learning rate against the gradient's sign, after the decay.
TEST(Execute, AdamwReachesEveryTensor) {
  const Context context = make_context();
  for (const int64_t hidden : {0, 3}) {
    const Plan plan = make_plan(context.get(), plan_options(8, 5, hidden, 4, RH_OPTIMIZER));
    Step step(8, 5, hidden, 4), before(8, 5, hidden, 4);
    float next = -2;
    double squares = 0;
    std::vector<float>* gradients[] = {&step.gradient_data.w1, &step.gradient_data.b1, &step.gradient_data.w2,
                                       &step.gradient_data.b2};
    for (auto* list : gradients) {
      for (float& g : *list) {
        g = next;
        squares += next * next;
        next = next >= 2 ? -2 : next + (next == -0.5f ? 1 : 0.5f);
      }
    }
    step.options.clip_norm = 0;
    ASSERT_EQ(step.call(adamw, plan.get(), WorkspaceMemory(plan.get()).get()), RH_OK) << rh_last_error_message();
    EXPECT_FLOAT_EQ(step.gradient_norm_data, static_cast<float>(std::sqrt(squares)));
    const std::vector<float>*after[] = {&step.parameter_data.w1, &step.parameter_data.b1, &step.parameter_data.w2,
                                        &step.parameter_data.b2},
          *start[] = {&before.parameter_data.w1, &before.parameter_data.b1, &before.parameter_data.w2,
                      &before.parameter_data.b2};
    for (int t = 0; t < 4; ++t) {
      for (size_t i = 0; i < after[t]->size(); ++i) {
        const double sign = (*gradients[t])[i] > 0 ? 1 : -1;
        EXPECT_NEAR((*after[t])[i], (*start[t])[i] * (1 - 1e-2 * 0.1) - 1e-2 * sign, 1e-6) << t << ' ' << i;
      }
    }
  }
}

// Clipped to norm 1/2, the first moment is (1 - beta1) of the gradient scaled so; a smaller gradient is left alone.
TEST(Execute, ClippingScalesByTheGlobalNorm) {
  const Context context = make_context();
  const Plan plan = make_plan(context.get(), plan_options(8, 5, 3, 4, RH_OPTIMIZER));
  for (const float size : {1.0f, 0.01f}) {
    Step step(8, 5, 3, 4);
    for (auto* list :
         {&step.gradient_data.w1, &step.gradient_data.b1, &step.gradient_data.w2, &step.gradient_data.b2}) {
      std::fill(list->begin(), list->end(), size);
    }
    step.options.clip_norm = 0.5;
    ASSERT_EQ(step.call(adamw, plan.get(), WorkspaceMemory(plan.get()).get()), RH_OK);
    const double norm = size * std::sqrt(22.0);  // 15 + 3 + 3 + 1 elements
    EXPECT_FLOAT_EQ(step.gradient_norm_data, static_cast<float>(norm));
    const double scale = norm > 0.5 ? 0.5 / (norm + 1e-6) : 1;  // as torch.nn.utils.clip_grad_norm_
    EXPECT_NEAR(step.first_data.w1[7], 0.1 * size * scale, 1e-7 * size);
    EXPECT_NEAR(step.first_data.b2[0], 0.1 * size * scale, 1e-7 * size);
  }
}

TEST(Execute, NonFiniteNormIsWrittenLikeAnyValue) {
  const Context context = make_context();
  const Plan plan = make_plan(context.get(), plan_options(8, 5, 3, 4, RH_OPTIMIZER));
  Step step(8, 5, 3, 4);
  step.gradient_data.w2[1] = NAN;
  ASSERT_EQ(step.call(adamw, plan.get(), WorkspaceMemory(plan.get()).get()), RH_OK);
  EXPECT_TRUE(std::isnan(step.gradient_norm_data));
  for (const float w : step.parameter_data.w1) EXPECT_TRUE(std::isnan(w));
}

}  // namespace
}  // namespace rewardhead::runtime::testing
