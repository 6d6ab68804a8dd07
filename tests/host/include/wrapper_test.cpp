// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "rewardhead/rewardhead.hpp"

namespace rewardhead {
namespace {

static_assert(std::is_nothrow_move_constructible_v<Context> && !std::is_copy_constructible_v<Context>);
static_assert(std::is_move_constructible_v<Plan> && !std::is_copy_constructible_v<Plan>);
static_assert(std::is_nothrow_move_constructible_v<Workspace> && !std::is_copy_constructible_v<Workspace>);
static_assert(std::is_copy_constructible_v<Head>);

constexpr int64_t kRows = 6, kInput = 5;

std::vector<float> wavy(size_t size) {
  std::vector<float> values(size);
  for (size_t i = 0; i < size; ++i) values[i] = std::sin(static_cast<float>(i + 1));
  return values;
}

Head wavy_head(int64_t hidden) {
  Head head(kInput, hidden);
  std::ranges::copy(wavy(head.values().size()), head.values().begin());
  return head;
}

template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), RH_INVALID_ARGUMENT);
    return error.what();
  }
  return "no error";
}

TEST(Wrapper, AHeadIsOnePieceOfMemory) {
  Head head(3, 2);
  ASSERT_EQ(head.values().size(), 11u);  // 6 + 2 + 2 + 1
  for (size_t i = 0; i < 11; ++i) head.values()[i] = static_cast<float>(i);
  EXPECT_EQ(head.w1().size(), 6u);
  EXPECT_TRUE(std::ranges::equal(head.b1(), std::vector<float>{6, 7}));
  EXPECT_TRUE(std::ranges::equal(head.w2(), std::vector<float>{8, 9}));
  EXPECT_TRUE(std::ranges::equal(head.b2(), std::vector<float>{10}));
  const Head linear(3, 0);
  EXPECT_EQ(linear.w1().size(), 3u);
  const rh_tensors tensors = linear.tensors();
  EXPECT_EQ(tensors.w1, linear.w1().data());
  EXPECT_TRUE(tensors.b1 == nullptr && tensors.w2 == nullptr && tensors.b2 == nullptr);
}

TEST(Wrapper, AStateOfAnotherShapeIsRefused) {
  const auto x = wavy(kRows * kInput);
  const Context context;
  const Plan plan(context, {.rows = kRows, .input_dim = kInput, .hidden_dim = 3, .max_pairs = 1});
  const Workspace workspace(plan);
  Head head = wavy_head(3);
  const auto refused = [&](const char* name, TrainingState state) {
    const std::string expected = std::string(name) + " has input_dim";
    const auto adamw = error_of([&] { plan.adamw({}, head, state, workspace); });
    EXPECT_TRUE(adamw.starts_with(expected)) << adamw;
    const auto step = error_of([&] { plan.train_step(matrix(x, kRows), {.count = 1}, {}, head, state, workspace); });
    EXPECT_TRUE(step.starts_with(expected)) << step;
    EXPECT_EQ(state.step, 0);
  };
  TrainingState state(head, kRows);
  state.gradients = Head(2, 2);
  refused("state.gradients", state);
  state = TrainingState(head, kRows);
  state.first_moments = Head(2, 2);
  refused("state.first_moments", state);
  state = TrainingState(head, kRows);
  state.second_moments = Head(2, 2);
  refused("state.second_moments", state);
  state = TrainingState(head, kRows);
  state.reward_gradient.resize(1);
  EXPECT_EQ(error_of([&] { plan.train_step(matrix(x, kRows), {.count = 1}, {}, head, state, workspace); }),
            "the state has fewer rows than x");
}

TEST(Wrapper, FourCallsGiveTheBitsOfTheTrainingStep) {
  const auto x = wavy(kRows * kInput);
  const std::vector<int32_t> chosen{0, 2, 4, 1}, rejected{1, 3, 5, 5};
  const std::vector<float> margin{0.1f, 0, 0.2f, 0}, weight{1, 2, 0, 1}, label{1, 0.5f, 1, 0};
  const Pairs pairs{chosen, rejected, margin, weight, label};
  const Context context({.threads = 2});
  for (const int64_t hidden : {0, 7}) {
    const Plan plan(context, {.rows = kRows, .input_dim = kInput, .hidden_dim = hidden, .max_pairs = 4});
    const Workspace workspace(plan);
    Head fused = wavy_head(hidden), separate = wavy_head(hidden);
    TrainingState a(fused, kRows), b(separate, kRows);
    const AdamwOptions options{.learning_rate = 0.1, .clip_norm = 0.05};
    for (int step = 1; step <= 3; ++step) {
      const float loss = plan.train_step(matrix(x, kRows), pairs, options, fused, a, workspace, 3);
      plan.forward(matrix(x, kRows), separate, b.rewards, workspace);
      EXPECT_EQ(plan.pair_loss(b.rewards, pairs, b.reward_gradient, workspace, 3), loss);
      plan.backward(matrix(x, kRows), separate, b.reward_gradient, b.gradients, {}, workspace);
      plan.adamw(options, separate, b, workspace);
      EXPECT_TRUE(std::ranges::equal(fused.values(), separate.values())) << "step " << step;
      EXPECT_EQ(a.gradient_norm, b.gradient_norm);
      EXPECT_EQ(a.step, step);
      EXPECT_EQ(b.step, step);
    }
    EXPECT_FALSE(std::ranges::equal(fused.values(), wavy_head(hidden).values()));
  }
}

TEST(Wrapper, PairsInNeighbouringRowsNeedNoIndices) {
  const Context context({.threads = 1});
  const Plan plan(context, {.rows = kRows, .max_pairs = 3, .operations = RH_PAIR_LOSS});
  const Workspace workspace(plan);
  const auto rewards = wavy(kRows);
  const std::vector<int32_t> chosen{0, 2, 4}, rejected{1, 3, 5};
  EXPECT_EQ(plan.pair_loss(rewards, {.chosen = {}, .rejected = {}, .count = 3}, {}, workspace),
            plan.pair_loss(rewards, {.chosen = chosen, .rejected = rejected}, {}, workspace));
}

TEST(Wrapper, SizesThatDoNotFitAreRefused) {
  const Context context({.threads = 1});
  const Plan plan(context, {.rows = kRows, .input_dim = kInput, .hidden_dim = 2, .max_pairs = 4});
  const Workspace workspace(plan);
  const auto values = wavy(kRows * kInput);
  const rh_matrix x = matrix(values, kRows);
  const Head head = wavy_head(2), other = wavy_head(3);
  std::vector<float> rewards(kRows), few(kRows - 1);
  EXPECT_EQ(error_of([&] { plan.forward(x, head, few, workspace); }), "rewards has 5 elements where 6 are expected");
  EXPECT_EQ(error_of([&] { plan.forward(x, other, rewards, workspace); }),
            "head has input_dim 5 and hidden_dim 3, but the plan has 5 and 2");
  const std::vector<int32_t> chosen{0, 2}, rejected{1};
  const std::vector<float> label{1};
  EXPECT_EQ(error_of([&] {
              plan.pair_loss(rewards, {chosen, rejected}, {}, workspace);
            }),
            "rejected has 1 elements where 2 are expected");
  EXPECT_EQ(
      error_of([&] { plan.pair_loss(rewards, {.chosen = chosen, .rejected = chosen, .label = label}, {}, workspace); }),
      "label has 1 elements where 2 are expected");
  EXPECT_EQ(error_of([&] {
              plan.pair_loss(rewards, {chosen, {}}, {}, workspace);
            }),
            "rejected has 0 elements where 2 are expected");
  EXPECT_NE(error_of([&] { matrix(values, 7); }), "no error");
  EXPECT_NE(error_of([&] { Head(0, 4); }), "no error");
}

TEST(Wrapper, EnsemblesAreRefused) {
  const Context context({.threads = 1});
  const Plan plan(context, {.rows = kRows, .input_dim = kInput, .hidden_dim = 2, .max_pairs = 4, .members = 3});
  const Workspace workspace(plan);
  const auto values = wavy(kRows * kInput);
  const Head head = wavy_head(2);
  std::vector<float> rewards(kRows);
  const std::string expected = "the plan has 3 members; ensembles are executed by the C functions on get()";
  EXPECT_EQ(error_of([&] { plan.forward(matrix(values, kRows), head, rewards, workspace); }), expected);
  EXPECT_EQ(error_of([&] { plan.pair_loss(rewards, {}, {}, workspace); }), expected);
}

TEST(Wrapper, CarriesTheLibrarysStatusAndMessage) {
  try {
    Context({.isa = "sse9"});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), RH_INVALID_ARGUMENT);
    EXPECT_NE(std::string(error.what()).find("sse9"), std::string::npos) << error.what();
    EXPECT_STREQ(error.what(), rh_last_error_message());
  }
}

TEST(Wrapper, PlansOfTheCpuChooseNothing) {
  const Context context({.threads = 1});
  const auto refusal = [&](const PlanOptions& options) {
    try {
      Plan(context, options).choices();
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), RH_UNSUPPORTED);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  PlanOptions options = {.rows = kRows, .input_dim = kInput, .hidden_dim = 2, .max_pairs = 4};
  EXPECT_EQ(refusal(options), "the plan's device is the CPU, whose plans have nothing to choose");
  options.planning = RH_PLAN_MEASURE;
  EXPECT_NE(refusal(options).find("planning is RH_PLAN_MEASURE"), std::string::npos);
  options.choices = "rewardhead_choices=1";
  EXPECT_NE(refusal(options).find("choices is given"), std::string::npos);
}

TEST(Wrapper, WorkspacesAreAlignedAndMove) {
  const Context context({.threads = 1});
  const Plan plan(context, {.rows = kRows, .input_dim = kInput, .hidden_dim = 2, .max_pairs = 4});
  Workspace workspace(plan);
  const rh_workspace memory = workspace.get();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.data) % RH_ALIGNMENT, 0u);
  EXPECT_EQ(memory.bytes, plan.workspace_bytes());
  const Workspace moved = std::move(workspace);
  EXPECT_EQ(moved.get().data, memory.data);
}

}  // namespace
}  // namespace rewardhead
