// SPDX-License-Identifier: Apache-2.0
//
// Every argument wrong in turn: the right status, a message that names the argument and the values, no output touched.
#include <cmath>
#include <functional>
#include <limits>

#include "tests/host/runtime/step.h"

namespace rewardhead::runtime::testing {
namespace {

constexpr int64_t kRows = 8, kInput = 5, kHidden = 3, kPairs = 4;
constexpr Call kCalls[] = {forward, pair_loss, backward, adamw, train, loss_gradients};
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::string message() { return rh_last_error_message(); }

void expect_mentions(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << '"' << text << "\": " << part;
}

float* misaligned(float* pointer) { return reinterpret_cast<float*>(reinterpret_cast<char*>(pointer) + 1); }
int32_t* misaligned(int32_t* pointer) { return reinterpret_cast<int32_t*>(reinterpret_cast<char*>(pointer) + 2); }

struct Wrong {
  int calls;  // that take the argument
  std::function<void(Step&)> change;
  std::vector<std::string> mentions;
};

void expect_refused(const rh_plan* plan, int64_t hidden, const Wrong& wrong) {
  const WorkspaceMemory memory(plan);
  for (const Call which : kCalls) {
    if (!(wrong.calls & which)) continue;
    SCOPED_TRACE(::testing::Message() << "call " << which << ", \"" << wrong.mentions[0] << '"');
    Step step(kRows, kInput, hidden, kPairs);
    ASSERT_EQ(step.call(which, plan, memory.get()), RH_OK) << message();
    wrong.change(step);
    const std::vector<float> before = step.outputs();
    EXPECT_EQ(step.call(which, plan, memory.get()), RH_INVALID_ARGUMENT);
    expect_mentions(message(), wrong.mentions);
    EXPECT_TRUE(same_bits(step.outputs(), before));
  }
}

TEST(Arguments, MatrixAndVectors) {
  const Context context = make_context();
  const Plan plan = make_plan(context.get(), plan_options(kRows, kInput, kHidden, kPairs));
  constexpr int fused = train | loss_gradients;
  constexpr int reads_x = forward | backward | fused;
  constexpr int uses_rewards = forward | pair_loss | fused;
  constexpr int uses_reward_gradient = backward | fused;
  for (const Wrong& wrong : std::vector<Wrong>{
           {forward | backward, [](Step& s) { s.x_pointer = nullptr; }, {"x is NULL"}},
           {reads_x, [](Step& s) { s.x.data = nullptr; }, {"x->data is NULL"}},
           {reads_x, [](Step& s) { s.x.data = misaligned(s.x_data.data()); }, {"x->data", "aligned"}},
           {reads_x, [](Step& s) { s.x.rows = 0; }, {"x->rows is 0", "1 to 8"}},
           {reads_x, [](Step& s) { s.x.rows = -3; }, {"x->rows is -3", "1 to 8"}},
           {reads_x, [](Step& s) { s.x.rows = 9; }, {"x->rows is 9", "1 to 8"}},
           {reads_x, [](Step& s) { s.x.row_stride = 4; }, {"x->row_stride is 4", "input_dim is 5"}},
           {reads_x, [](Step& s) { s.x.row_stride = -5; }, {"x->row_stride is -5", "input_dim is 5"}},
           {uses_rewards, [](Step& s) { s.rewards = nullptr; }, {"rewards is NULL"}},
           {uses_rewards, [](Step& s) { s.rewards = misaligned(s.rewards); }, {"rewards", "aligned"}},
           {pair_loss, [](Step& s) { s.rows = 0; }, {"rows is 0", "1 to 8"}},
           {pair_loss, [](Step& s) { s.rows = 9; }, {"rows is 9", "1 to 8"}},
           {uses_reward_gradient, [](Step& s) { s.reward_gradient = nullptr; }, {"reward_gradient is NULL"}},
           {uses_reward_gradient | pair_loss,
            [](Step& s) { s.reward_gradient = misaligned(s.reward_gradient); },
            {"reward_gradient", "aligned"}},
           {pair_loss | fused, [](Step& s) { s.loss = nullptr; }, {"loss is NULL"}},
           {pair_loss | fused, [](Step& s) { s.loss = misaligned(s.loss); }, {"loss", "aligned"}},
           {adamw | train,
            [](Step& s) { s.gradient_norm = misaligned(s.gradient_norm); },
            {"gradient_norm", "aligned"}},
           {backward | loss_gradients,
            [](Step& s) { s.input_gradient = misaligned(s.input_gradient); },
            {"input_gradient", "aligned"}},
           {backward | loss_gradients,
            [](Step& s) { s.input_gradient_stride = 4; },
            {"input_gradient_stride is 4", "input_dim is 5"}},
           {fused, [](Step& s) { s.train_pointer = false; }, {"arguments is NULL"}},
           {loss_gradients, [](Step& s) { s.loss_struct_size = 8; }, {"arguments->struct_size is 8", "expected"}},
           {train, [](Step& s) { s.train_struct_size = 8; }, {"arguments->struct_size is 8", "expected"}},
       }) {
    expect_refused(plan.get(), kHidden, wrong);
  }
}

TEST(Arguments, Tensors) {
  const Context context = make_context();
  const Plan plan = make_plan(context.get(), plan_options(kRows, kInput, kHidden, kPairs));
  constexpr int fused = train | loss_gradients;
  const struct {
    const char* name;
    int calls;
    int fused;
    rh_tensors Step::*tensors;
    const rh_tensors* Step::*pointer;
  } groups[] = {
      {"parameters", forward | backward | adamw, fused, &Step::parameters, &Step::parameters_pointer},
      {"gradients", backward | adamw, fused, &Step::gradients, &Step::gradients_pointer},
      {"first_moments", adamw, train, &Step::first_moments, &Step::first_moments_pointer},
      {"second_moments", adamw, train, &Step::second_moments, &Step::second_moments_pointer},
  };
  const struct {
    const char* name;
    float* rh_tensors::*tensor;
  } members[] = {{"w1", &rh_tensors::w1}, {"b1", &rh_tensors::b1}, {"w2", &rh_tensors::w2}, {"b2", &rh_tensors::b2}};
  for (const auto& group : groups) {
    const std::string name = group.name;
    expect_refused(plan.get(), kHidden,
                   {group.calls, [&](Step& s) { s.*group.pointer = nullptr; }, {name + " is NULL"}});
    for (const auto& member : members) {
      const std::string full = name + "->" + member.name;
      expect_refused(plan.get(), kHidden,
                     {group.calls | group.fused,
                      [&](Step& s) { s.*group.tensors.*member.tensor = nullptr; },
                      {full + " is NULL"}});
      expect_refused(plan.get(), kHidden,
                     {group.calls | group.fused,
                      [&](Step& s) { s.*group.tensors.*member.tensor = misaligned(s.*group.tensors.*member.tensor); },
                      {full, "aligned"}});
    }
  }
  // A linear head has w1 only.
  const Plan linear = make_plan(context.get(), plan_options(kRows, kInput, 0, kPairs));
  float extra = 0;
  for (const auto& group : groups) {
    for (const auto& member : members) {
      if (member.tensor == &rh_tensors::w1) continue;
      expect_refused(linear.get(), 0,
                     {group.calls | group.fused,
                      [&](Step& s) { s.*group.tensors.*member.tensor = &extra; },
                      {group.name, "linear head", "NULL"}});
    }
  }
}

TEST(Arguments, Pairs) {
  const Context context = make_context();
  const Plan plan = make_plan(context.get(), plan_options(kRows, kInput, kHidden, kPairs));
  constexpr int calls = pair_loss | train | loss_gradients;
  const auto adjacent = [](Step& s) { s.pairs.chosen = s.pairs.rejected = nullptr; };
  for (const Wrong& wrong : std::vector<Wrong>{
           {pair_loss, [](Step& s) { s.pairs_pointer = nullptr; }, {"pairs is NULL"}},
           {calls, [](Step& s) { s.pairs.count = 0; }, {"pairs->count is 0", "1 to 4"}},
           {calls, [](Step& s) { s.pairs.count = 5; }, {"pairs->count is 5", "1 to 4"}},
           {calls, [](Step& s) { s.pairs.chosen = nullptr; }, {"pairs->chosen", "pairs->rejected", "NULL"}},
           {calls, [](Step& s) { s.pairs.rejected = nullptr; }, {"pairs->chosen", "pairs->rejected", "NULL"}},
           {calls, [](Step& s) { s.pairs.chosen = misaligned(s.chosen.data()); }, {"pairs->chosen", "aligned"}},
           {calls, [](Step& s) { s.pairs.rejected = misaligned(s.rejected.data()); }, {"pairs->rejected", "aligned"}},
           {calls, [](Step& s) { s.chosen[3] = 8; }, {"pairs->chosen[3] is 8", "0 to 7"}},
           {calls, [](Step& s) { s.chosen[0] = -1; }, {"pairs->chosen[0] is -1", "0 to 7"}},
           {calls, [](Step& s) { s.rejected[2] = 1000; }, {"pairs->rejected[2] is 1000", "0 to 7"}},
           {calls, [](Step& s) { s.rejected[1] = INT32_MIN; }, {"pairs->rejected[1] is -2147483648", "0 to 7"}},
           {calls,
            [](Step& s) { s.rejected[1] = s.chosen[1] = 6; },
            {"pairs->rejected[1] is 6", "same row as pairs->chosen"}},
           {calls,
            [&](Step& s) {
              adjacent(s);
              s.rows = s.x.rows = 7;
            },
            {"pairs->count is 4", "7 rows"}},
           {calls, [](Step& s) { s.margin[3] = kNan; }, {"pairs->margin[3] is", "nan", "finite"}},
           {calls, [](Step& s) { s.margin[0] = -kInfinity; }, {"pairs->margin[0] is -inf", "finite"}},
           {calls, [](Step& s) { s.pairs.margin = misaligned(s.margin.data()); }, {"pairs->margin", "aligned"}},
           {calls, [](Step& s) { s.weight[2] = kNan; }, {"pairs->weight[2] is", "nan", "not negative"}},
           {calls, [](Step& s) { s.weight[2] = -0.5f; }, {"pairs->weight[2] is -0.5", "not negative"}},
           {calls, [](Step& s) { s.weight[2] = kInfinity; }, {"pairs->weight[2] is inf", "not negative"}},
           {calls, [](Step& s) { s.pairs.weight = misaligned(s.weight.data()); }, {"pairs->weight", "aligned"}},
           {calls, [](Step& s) { s.label[1] = kNan; }, {"pairs->label[1] is", "nan", "0 to 1"}},
           {calls, [](Step& s) { s.label[1] = 1.5f; }, {"pairs->label[1] is 1.5", "0 to 1"}},
           {calls, [](Step& s) { s.label[1] = -0.25f; }, {"pairs->label[1] is -0.25", "0 to 1"}},
           {calls, [](Step& s) { s.pairs.label = misaligned(s.label.data()); }, {"pairs->label", "aligned"}},
           {calls, [](Step& s) { s.normalizer = 1e-39; }, {"normalizer is 0.0", "1e-30 to 1e30"}},
           {calls, [](Step& s) { s.normalizer = -1; }, {"normalizer is -1", "1e-30 to 1e30"}},
           {calls, [](Step& s) { s.normalizer = kNan; }, {"normalizer is nan", "1e-30 to 1e30"}},
           {calls, [](Step& s) { s.normalizer = kInfinity; }, {"normalizer is inf", "1e-30 to 1e30"}},
       }) {
    expect_refused(plan.get(), kHidden, wrong);
  }
}

TEST(Arguments, Adamw) {
  const Context context = make_context();
  const Plan plan = make_plan(context.get(), plan_options(kRows, kInput, kHidden, kPairs));
  constexpr int calls = adamw | train;
  for (const Wrong& wrong : std::vector<Wrong>{
           {adamw, [](Step& s) { s.options_pointer = nullptr; }, {"options is NULL"}},
           {calls,
            [](Step& s) { s.options.struct_size = 4; },
            {"options->struct_size is 4", std::to_string(sizeof(rh_adamw_options))}},
           {calls, [](Step& s) { s.options.learning_rate = -1; }, {"learning_rate is -1", "not negative"}},
           {calls, [](Step& s) { s.options.learning_rate = kNan; }, {"learning_rate is nan", "not negative"}},
           {calls, [](Step& s) { s.options.beta1 = 1; }, {"beta1 is 1", "not including, 1"}},
           {calls, [](Step& s) { s.options.beta1 = -0.5; }, {"beta1 is -0.5", "not including, 1"}},
           {calls, [](Step& s) { s.options.beta2 = 1; }, {"beta2 is 1", "not including, 1"}},
           {calls, [](Step& s) { s.options.beta2 = kNan; }, {"beta2 is nan", "not including, 1"}},
           {calls, [](Step& s) { s.options.epsilon = 0; }, {"epsilon is 0", "1e-30 or more"}},
           {calls, [](Step& s) { s.options.epsilon = kInfinity; }, {"epsilon is inf", "1e-30 or more"}},
           {calls, [](Step& s) { s.options.weight_decay = -1; }, {"weight_decay is -1", "not negative"}},
           {calls, [](Step& s) { s.options.clip_norm = -1; }, {"clip_norm is -1", "positive"}},
           {calls, [](Step& s) { s.options.clip_norm = kNan; }, {"clip_norm is nan", "positive"}},
           {calls, [](Step& s) { s.options.step = 0; }, {"step is 0", "1 to"}},
       }) {
    expect_refused(plan.get(), kHidden, wrong);
  }
}

TEST(Arguments, Workspace) {
  const Context context = make_context();
  const Plan plan = make_plan(context.get(), plan_options(kRows, kInput, kHidden, kPairs));
  const WorkspaceMemory memory(plan.get());
  const rh_workspace good = memory.get();
  EXPECT_EQ(good.bytes % RH_ALIGNMENT, 0u);
  const std::pair<rh_workspace, std::vector<std::string>> bad[] = {
      {{nullptr, good.bytes}, {"workspace.data is NULL"}},
      {{static_cast<char*>(good.data) + 32, good.bytes}, {"workspace.data", "aligned to 64"}},
      {{good.data, good.bytes - 1},
       {"workspace.bytes is " + std::to_string(good.bytes - 1), std::to_string(good.bytes)}},
      {{good.data, 0}, {"workspace.bytes is 0", std::to_string(good.bytes)}},
  };
  for (const Call which : kCalls) {
    for (const auto& [workspace, mentions] : bad) {
      Step step(kRows, kInput, kHidden, kPairs);
      const std::vector<float> before = step.outputs();
      EXPECT_EQ(step.call(which, plan.get(), workspace), RH_INVALID_ARGUMENT);
      expect_mentions(message(), mentions);
      EXPECT_TRUE(same_bits(step.outputs(), before));
    }
    Step step(kRows, kInput, kHidden, kPairs);
    EXPECT_EQ(step.call(which, nullptr, good), RH_INVALID_ARGUMENT);
    expect_mentions(message(), {"plan is NULL"});
  }
}

TEST(Arguments, OperationsThatThePlanWasNotMadeFor) {
  const Context context = make_context();
  const struct {
    uint32_t operations;
    int allowed;
    const char* missing;
  } plans[] = {{RH_FORWARD, forward, "RH_"},
               {RH_PAIR_LOSS, pair_loss, "RH_"},
               {RH_BACKWARD, forward | backward, "RH_"},
               {RH_OPTIMIZER, adamw, "RH_"},
               {RH_PAIR_LOSS | RH_BACKWARD, forward | pair_loss | backward | loss_gradients, "RH_"}};
  for (const auto& [operations, allowed, missing] : plans) {
    const Plan plan = make_plan(context.get(), plan_options(kRows, kInput, kHidden, kPairs, operations));
    const WorkspaceMemory memory(plan.get());
    for (const Call which : kCalls) {
      Step step(kRows, kInput, kHidden, kPairs);
      step.input_gradient = nullptr;
      const rh_status expected = allowed & which ? RH_OK : RH_INVALID_ARGUMENT;
      EXPECT_EQ(step.call(which, plan.get(), memory.get()), expected) << operations << ' ' << which;
      if (expected != RH_OK) expect_mentions(message(), {"plan was made without", missing});
    }
  }
  const Plan plan = make_plan(context.get(), plan_options(kRows, kInput, kHidden, kPairs, RH_BACKWARD));
  const WorkspaceMemory memory(plan.get());
  Step step(kRows, kInput, kHidden, kPairs);
  EXPECT_EQ(step.call(backward, plan.get(), memory.get()), RH_INVALID_ARGUMENT);
  expect_mentions(message(), {"plan was made without RH_INPUT_GRADIENT"});
}

TEST(Arguments, PlanOptions) {
  const Context context = make_context();
  const struct {
    std::function<void(rh_plan_options&)> change;
    std::vector<std::string> mentions;
  } cases[] = {
      {[](auto& o) { o.struct_size = 1; }, {"options->struct_size is 1", std::to_string(sizeof(rh_plan_options))}},
      {[](auto& o) { o.operations = 0; }, {"operations is 0"}},
      {[](auto& o) { o.operations = 1 << 9; }, {"operations is 512", "31"}},
      {[](auto& o) { o.rows = 0; }, {"rows is 0", "1 to 2147483647"}},
      {[](auto& o) { o.rows = int64_t{1} << 31; }, {"rows is 2147483648", "2147483647"}},
      {[](auto& o) { o.input_dim = 0; }, {"input_dim is 0", "1 to 16777216"}},
      {[](auto& o) { o.input_dim = 1 << 25; }, {"input_dim is 33554432", "16777216"}},
      {[](auto& o) { o.hidden_dim = -1; }, {"hidden_dim is -1", "0 to 16777216"}},
      {[](auto& o) { o.hidden_dim = 1 << 25; }, {"hidden_dim is 33554432", "16777216"}},
      {[](auto& o) { o.max_pairs = 0; }, {"max_pairs is 0", "1 to 1099511627776"}},
      {[](auto& o) { o.max_pairs = int64_t{1} << 41; }, {"max_pairs is 2199023255552", "1099511627776"}},
      {[](auto& o) { set_enum(o.input_dtype, 3); }, {"input_dtype is 3", "0 to 2"}},
      {[](auto& o) { set_enum(o.input_dtype, -1); }, {"input_dtype is -1", "0 to 2"}},
      {[](auto& o) { o.members = -1; }, {"members is -1", "0 to 65536"}},
      {[](auto& o) { o.members = 1 << 17; }, {"members is 131072", "0 to 65536"}},
      {[](auto& o) { o.hidden_dim = 1 << 16, o.members = 1 << 15; }, {"members is 32768", "1 to 16384"}},
      {[](auto& o) { set_enum(o.objective, 1000); }, {"objective is 1000", "0 to 0"}},
      {[](auto& o) { set_enum(o.planning, 2); }, {"planning is 2", "0 to 1"}},
      {[](auto& o) { o.struct_size = offsetof(rh_plan_options, choices); }, {"options->struct_size is "}},
  };
  for (const auto& [change, mentions] : cases) {
    rh_plan_options options = plan_options(kRows, kInput, kHidden, kPairs);
    change(options);
    rh_plan* plan = nullptr;
    EXPECT_EQ(rh_plan_create(context.get(), &options, &plan), RH_INVALID_ARGUMENT) << mentions[0];
    EXPECT_EQ(plan, nullptr);
    expect_mentions(message(), mentions);
  }
  const rh_plan_options options = plan_options(kRows, kInput, kHidden, kPairs);
  rh_plan* plan = nullptr;
  EXPECT_EQ(rh_plan_create(nullptr, &options, &plan), RH_INVALID_ARGUMENT);
  expect_mentions(message(), {"context is NULL"});
  EXPECT_EQ(rh_plan_create(context.get(), nullptr, &plan), RH_INVALID_ARGUMENT);
  expect_mentions(message(), {"options is NULL"});
  EXPECT_EQ(rh_plan_create(context.get(), &options, nullptr), RH_INVALID_ARGUMENT);
  expect_mentions(message(), {"plan is NULL"});
  EXPECT_EQ(rh_plan_workspace_bytes(nullptr), 0u);
  EXPECT_EQ(rh_plan_mask_bytes(nullptr), 0u);
  EXPECT_EQ(rh_plan_mask_offset(nullptr), 0u);

  // A program built before `planning` was added has nothing there.
  rh_plan_options old = options;
  old.struct_size = offsetof(rh_plan_options, planning);
  set_enum(old.planning, 77);
  old.choices = "neither";
  make_plan(context.get(), old);

  // What is for GPUs.
  rh_plan_options measured = options, chosen = options;
  measured.planning = RH_PLAN_MEASURE;
  EXPECT_EQ(rh_plan_create(context.get(), &measured, &plan), RH_UNSUPPORTED);
  expect_mentions(message(), {"planning is RH_PLAN_MEASURE, but the device is the CPU"});
  chosen.choices = "rewardhead_choices=1";
  EXPECT_EQ(rh_plan_create(context.get(), &chosen, &plan), RH_UNSUPPORTED);
  expect_mentions(message(), {"choices is given, but the device is the CPU"});
  size_t bytes = 0;
  EXPECT_EQ(rh_plan_export(make_plan(context.get(), options).get(), nullptr, &bytes), RH_UNSUPPORTED);
  expect_mentions(message(), {"the plan's device is the CPU"});
  EXPECT_EQ(rh_plan_export(make_plan(context.get(), options).get(), nullptr, nullptr), RH_INVALID_ARGUMENT);
  expect_mentions(message(), {"bytes is NULL"});
  EXPECT_EQ(rh_plan_export(nullptr, nullptr, &bytes), RH_INVALID_ARGUMENT);
  expect_mentions(message(), {"plan is NULL"});
  rh_plan_destroy(nullptr);
  // What only the head needs is not looked at where there is none, nor the pairs where they are not asked for.
  rh_plan_options pairs_only = plan_options(kRows, -1, -1, kPairs, RH_PAIR_LOSS);
  make_plan(context.get(), pairs_only);
  make_plan(context.get(), plan_options(kRows, kInput, kHidden, -1, RH_BACKWARD | RH_OPTIMIZER));
  // The largest plan there is can be asked for its size.
  const Plan largest = make_plan(context.get(), plan_options(INT32_MAX, 1 << 24, 1 << 24, int64_t{1} << 40));
  EXPECT_GT(rh_plan_workspace_bytes(largest.get()), size_t{1} << 50);
}

// Random choices of sizes and pointers, right and wrong ones: a status, never a crash.
TEST(Arguments, RandomChoicesNeverCrash) {
  std::mt19937_64 random(71);
  const auto draw = [&](int64_t first, int64_t last) {
    return first + static_cast<int64_t>(random() % static_cast<uint64_t>(last - first + 1));
  };
  const Context context = make_context(2);
  int accepted = 0, refused = 0;
  for (int i = 0; i < 3000; ++i) {
    const int64_t rows = draw(1, 70), input = draw(1, 20), hidden = draw(0, 10), pairs = draw(1, 30);
    rh_plan_options options = plan_options(rows, input, hidden, pairs, static_cast<uint32_t>(draw(0, 32)));
    if (draw(0, 9) == 0) options.rows = draw(-2, 0);
    if (draw(0, 9) == 0) options.hidden_dim = draw(-2, -1);
    rh_plan* made = nullptr;
    if (rh_plan_create(context.get(), &options, &made) != RH_OK) {
      EXPECT_EQ(made, nullptr);
      continue;
    }
    const Plan plan(made);
    const WorkspaceMemory memory(made);
    Step s(rows + 1, input, hidden, pairs + 1, random());
    s.rows = s.x.rows = draw(-1, rows + 1);
    s.x.row_stride = draw(0, 3) ? input : draw(-1, input);
    s.pairs.count = draw(-1, pairs + 1);
    const auto maybe_null = [&](auto&... pointers) { ((pointers = draw(0, 19) ? pointers : nullptr), ...); };
    maybe_null(s.x.data, s.rewards, s.reward_gradient, s.input_gradient, s.gradient_norm, s.pairs.chosen,
               s.pairs.rejected, s.pairs.margin, s.pairs_pointer, s.gradients.w1, s.parameters.b1,
               s.first_moments_pointer);
    if (draw(0, 9) == 0) s.chosen[0] = static_cast<int32_t>(random());
    if (draw(0, 9) == 0) s.label[0] = static_cast<float>(draw(-1, 2));
    if (draw(0, 9) == 0) s.normalizer = static_cast<double>(draw(-1, 1));
    rh_workspace workspace = memory.get();
    if (draw(0, 9) == 0) workspace.bytes = static_cast<size_t>(draw(0, static_cast<int64_t>(workspace.bytes)));
    for (const Call which : kCalls) {
      const std::vector<float> before = s.outputs();
      if (s.call(which, plan.get(), workspace) == RH_OK) {
        ++accepted;
        continue;
      }
      ++refused;
      EXPECT_FALSE(message().empty());
      EXPECT_TRUE(same_bits(s.outputs(), before));
    }
  }
  EXPECT_GT(accepted, 1000);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace rewardhead::runtime::testing
