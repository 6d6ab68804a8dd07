// SPDX-License-Identifier: Apache-2.0
//
// Executes through the C interface. That the kernels compute the right thing is tests/kernels' matter; here it is that
// the right ones run, on the right memory, alone and together.
#include <algorithm>
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
// Some large enough for several threads; the last four keep activations: a few rows', a block's, several blocks',
// and a few rows' whose threads share hidden units within a member.
constexpr Size kSizes[] = {{8, 5, 3, 4},          {130, 70, 100, 300},  {2, 1, 1, 1},      {300, 33, 0, 1500},
                           {65, 200, 7, 40},      {260, 300, 100, 300}, {700, 300, 0, 20000}, {3, 40, 7, 4},
                           {20, 130, 30, 50},     {70, 450, 20, 100},  {20, 130, 60, 50}};

TEST(Execute, EveryImplementationAgreesWithTheReference) {
  const Context reference = make_context(1, "reference");
  for (int i = 1; rh_isa_name(i); ++i) {
    const rh_context_options options = {sizeof options, RH_DEVICE_CPU, rh_isa_name(i), 2, nullptr, nullptr};
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

TEST(Execute, LossGradientsEqualsTheThreeCalls) {
  for (const int threads : {1, 3}) {
    const Context context = make_context(threads);
    for (const Size& size : kSizes) {
      for (const bool adjacent : {false, true}) {
        for (const bool with_input_gradient : {false, true}) {
          const int64_t pairs = adjacent ? std::min(size.pairs, size.rows / 2) : size.pairs;
          const Plan plan = make_plan(context.get(), plan_options(size.rows, size.input, size.hidden, pairs));
          const WorkspaceMemory memory(plan.get());
          Step together(size.rows, size.input, size.hidden, pairs), apart(size.rows, size.input, size.hidden, pairs);
          for (Step* step : {&together, &apart}) {
            if (adjacent) step->pairs.chosen = step->pairs.rejected = nullptr;
            if (!with_input_gradient) step->input_gradient = nullptr;
          }
          ASSERT_EQ(together.call(loss_gradients, plan.get(), memory.get()), RH_OK) << rh_last_error_message();
          for (const Call which : {forward, pair_loss, backward}) {
            ASSERT_EQ(apart.call(which, plan.get(), memory.get()), RH_OK) << rh_last_error_message();
          }
          EXPECT_TRUE(same_bits(together.outputs(), apart.outputs())) << size.rows << ' ' << adjacent;
        }
      }
    }
  }
}

// As an operator of PyTorch keeps it: from a plan without RH_INPUT_GRADIENT to one with it, by way of other memory.
TEST(Execute, TheMaskMayBeKeptElsewhere) {
  const Context context = make_context(3);
  for (const Size& size : kSizes) {
    const Plan scoring = make_plan(context.get(), plan_options(size.rows, size.input, size.hidden, 0, RH_FORWARD));
    EXPECT_EQ(rh_plan_mask_bytes(scoring.get()), 0u);
    EXPECT_EQ(rh_plan_mask_offset(scoring.get()), 0u);
    const Plan first = make_plan(context.get(), plan_options(size.rows, size.input, size.hidden, 0, RH_BACKWARD));
    const Plan second = make_plan(context.get(), plan_options(size.rows, size.input, size.hidden, size.pairs));
    const size_t bytes = rh_plan_mask_bytes(first.get());
    EXPECT_EQ(rh_plan_mask_bytes(second.get()), bytes);
    const int64_t blocks = (size.rows + 63) / 64;
    const int64_t values = 6 * size.rows > size.input ? 0 : blocks > 1 ? 64 : (size.rows + 15) / 16 * 16;
    EXPECT_EQ(bytes, static_cast<size_t>(blocks * size.hidden * (8 + 4 * values)));

    const WorkspaceMemory first_memory(first.get()), second_memory(second.get());
    Step together(size.rows, size.input, size.hidden, size.pairs), apart(size.rows, size.input, size.hidden, size.pairs);
    ASSERT_EQ(apart.call(forward, first.get(), first_memory.get()), RH_OK) << rh_last_error_message();
    const auto* const mask = static_cast<const char*>(first_memory.get().data) + rh_plan_mask_offset(first.get());
    const std::vector<char> kept(mask, mask + bytes);
    ASSERT_EQ(apart.call(pair_loss, second.get(), second_memory.get()), RH_OK) << rh_last_error_message();
    std::copy(kept.begin(), kept.end(),
              static_cast<char*>(second_memory.get().data) + rh_plan_mask_offset(second.get()));
    ASSERT_EQ(apart.call(backward, second.get(), second_memory.get()), RH_OK) << rh_last_error_message();

    for (const Call which : {forward, pair_loss, backward}) {
      ASSERT_EQ(together.call(which, second.get(), second_memory.get()), RH_OK) << rh_last_error_message();
    }
    EXPECT_TRUE(same_bits(together.outputs(), apart.outputs())) << size.rows << ' ' << size.hidden;
  }
}

// Tasks in descending order, workers going round, and a count of the calls.
struct CallersThreads {
  rh_executor executor() { return {5, this, run}; }
  static void run(void* self, int64_t tasks, rh_task task, const void* context) {
    ++static_cast<CallersThreads*>(self)->calls;
    for (int64_t i = tasks; i-- > 0;) task(context, i, static_cast<int>(i % 5));
  }
  int calls = 0;
};

TEST(Execute, TheCallersThreadsGiveTheSameBits) {
  CallersThreads threads;
  const rh_executor executor = threads.executor();
  const rh_context_options options = {sizeof options, RH_DEVICE_AUTO, nullptr, 0, &executor, nullptr};
  rh_context* created = nullptr;
  ASSERT_EQ(rh_context_create(&options, &created), RH_OK) << rh_last_error_message();
  const Context callers(created), own = make_context(2);
  EXPECT_EQ(rh_context_threads(callers.get()), 5);
  for (const Size& size : kSizes) {
    const rh_plan_options plan_of = plan_options(size.rows, size.input, size.hidden, size.pairs);
    const Plan a = make_plan(callers.get(), plan_of), b = make_plan(own.get(), plan_of);
    Step first(size.rows, size.input, size.hidden, size.pairs), second(size.rows, size.input, size.hidden, size.pairs);
    const int before = threads.calls;
    EXPECT_TRUE(same_bits(run_all(a.get(), first, WorkspaceMemory(a.get()).get()),
                          run_all(b.get(), second, WorkspaceMemory(b.get()).get())));
    if (size.rows >= 260 && size.input >= 300) {
      EXPECT_GT(threads.calls, before);
    }
  }
}

// The tensors of one member among those of an ensemble.
rh_tensors member_of(const rh_tensors& t, int64_t member, int64_t input, int64_t hidden) {
  if (hidden == 0) return {t.w1 + member * input, nullptr, nullptr, nullptr};
  return {t.w1 + member * hidden * input, t.b1 + member * hidden, t.w2 + member * hidden, t.b2 + member};
}

// Each member gets the bits that it would get alone; dX is the members' sum.
TEST(Execute, EnsemblesTrainLikeTheirMembers) {
  constexpr int64_t kMembers = 3;
  for (const int threads : {1, 3}) {
    const Context context = make_context(threads);
    for (const Size& size : kSizes) {
      for (const double clip : {0.0, 0.01}) {
        rh_plan_options plan_of = plan_options(size.rows, size.input, size.hidden, size.pairs);
        if (size.hidden == 0) plan_of.operations = RH_TRAIN;  // dX of several linear heads is not offered
        const Plan single = make_plan(context.get(), plan_of);
        plan_of.members = kMembers;
        const Plan ensemble = make_plan(context.get(), plan_of);
        const WorkspaceMemory single_memory(single.get()), memory(ensemble.get());
        Step together(size.rows, size.input, size.hidden, size.pairs, 3, kMembers);
        Step apart(size.rows, size.input, size.hidden, size.pairs, 3, kMembers);
        together.options.clip_norm = apart.options.clip_norm = clip;
        const rh_tensors parameters = apart.parameters, gradients = apart.gradients, first = apart.first_moments,
                         second = apart.second_moments;
        std::vector<float> input_gradient(size.rows * size.input);
        if (size.hidden == 0) together.input_gradient = apart.input_gradient = nullptr;
        for (const Call which : {loss_gradients, adamw}) {
          ASSERT_EQ(together.call(which, ensemble.get(), memory.get()), RH_OK) << rh_last_error_message();
        }
        for (int64_t member = 0; member < kMembers; ++member) {
          apart.parameters = member_of(parameters, member, size.input, size.hidden);
          apart.gradients = member_of(gradients, member, size.input, size.hidden);
          apart.first_moments = member_of(first, member, size.input, size.hidden);
          apart.second_moments = member_of(second, member, size.input, size.hidden);
          apart.rewards = apart.reward_data.data() + member * size.rows;
          apart.reward_gradient = apart.reward_gradient_data.data() + member * size.rows;
          apart.pairs.weight = apart.weight.data() + member * size.pairs;
          apart.loss = apart.loss_data.data() + member;
          apart.gradient_norm = apart.gradient_norm_data.data() + member;
          for (const Call which : {loss_gradients, adamw}) {
            ASSERT_EQ(apart.call(which, single.get(), single_memory.get()), RH_OK) << rh_last_error_message();
          }
          for (size_t i = 0; i < input_gradient.size(); ++i) input_gradient[i] += apart.input_gradient_data[i];
        }
        for (size_t i = 0; i < input_gradient.size(); ++i) {
          const float sum = input_gradient[i];
          ASSERT_NEAR(together.input_gradient_data[i], sum, 1e-5 * (1 + std::abs(sum))) << i;
        }
        together.input_gradient_data = apart.input_gradient_data;
        EXPECT_TRUE(same_bits(together.outputs(), apart.outputs())) << size.rows << ' ' << size.hidden;
      }
    }
  }
}

// A plan serves every smaller call, bit for bit as its own plan would; one for few rows stays one for few rows, and one that
// keeps activations one that does.
TEST(Execute, PlansForMoreRowsAndPairs) {
  const Context context = make_context(2);
  for (const Size& size : kSizes) {
    const Plan exact = make_plan(context.get(), plan_options(size.rows, size.input, size.hidden, size.pairs));
    const int64_t rows = size.rows <= 4               ? 4
                         : size.rows <= 16             ? size.rows
                         : 6 * size.rows <= size.input ? size.input / 6
                                                       : size.rows + 500;
    const Plan larger = make_plan(context.get(), plan_options(rows, size.input, size.hidden, size.pairs + 2000));
    Step a(size.rows, size.input, size.hidden, size.pairs), b(size.rows, size.input, size.hidden, size.pairs);
    EXPECT_TRUE(same_bits(run_all(exact.get(), a, WorkspaceMemory(exact.get()).get()),
                          run_all(larger.get(), b, WorkspaceMemory(larger.get()).get())));
  }
}

TEST(Execute, ConcurrentOnOnePlan) {
  const Context context = make_context(3);
  const Size size = {260, 150, 100, 300};
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
    return step.loss_data[0];
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
  EXPECT_EQ(bare.gradient_norm_data[0], 0);
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
    EXPECT_FLOAT_EQ(step.gradient_norm_data[0], static_cast<float>(std::sqrt(squares)));
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
    EXPECT_FLOAT_EQ(step.gradient_norm_data[0], static_cast<float>(norm));
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
  EXPECT_TRUE(std::isnan(step.gradient_norm_data[0]));
  for (const float w : step.parameter_data.w1) EXPECT_TRUE(std::isnan(w));
}

}  // namespace
}  // namespace rewardhead::runtime::testing
