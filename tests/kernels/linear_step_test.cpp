// SPDX-License-Identifier: Apache-2.0
//
// The linear head beyond what the tests of both heads cover: many chunks of rows, and the step in one pass over X,
// which must give the bits of forward, pair loss and backward one after another.
#include <cmath>
#include <optional>

#include "tests/kernels/problem.h"

namespace rewardhead::kernels::testing {
namespace {

struct StepResults {
  explicit StepResults(const Sizes& s) : results(s), loss(1), reward_gradient(s.rows) {}
  Results results;
  Guarded<float> loss, reward_gradient;
};

bool same_bits(const StepResults& a, const StepResults& b) {
  return same_bits(a.results, b.results) && same_bits(a.loss, b.loss) &&
         same_bits(a.reward_gradient, b.reward_gradient);
}

struct StepProblem {
  StepProblem(const Sizes& sizes, int64_t pair_count, int options, Random& random) : head(sizes), pairs(pair_count) {
    std::normal_distribution<double> normal;
    head.fill([&](int64_t, int64_t) { return normal(random); }, [&] { return normal(random); });
    const auto fill = [&](std::optional<Guarded<float>>& list, const auto& value) {
      list.emplace(pairs);
      for (float& element : *list) element = static_cast<float>(value());
    };
    if (options & 1) fill(margin, [&] { return normal(random); });
    if (options & 2) fill(weight, [&] { return std::max(0.0, normal(random)); });
    if (options & 4) fill(label, [&] { return std::uniform_real_distribution<double>(0, 1)(random); });
  }

  StepResults run(const KernelTable& table, const Executor& executor, bool one_pass, bool with_dx = true) const {
    const Sizes& s = head.sizes;
    StepResults to(s);
    const auto pointer = [](const std::optional<Guarded<float>>& list) { return list ? list->data() : nullptr; };
    const ForwardArguments forward = {head.matrix(), 0, head.head.view(), to.results.rewards.data(), nullptr};
    const PairLossArguments loss = {to.results.rewards.data(),
                                    s.rows,
                                    pairs,
                                    nullptr,
                                    nullptr,
                                    pointer(margin),
                                    pointer(weight),
                                    pointer(label),
                                    static_cast<double>(pairs),
                                    to.loss.data(),
                                    to.reward_gradient.data()};
    const BackwardArguments backward = {head.matrix(),
                                        0,
                                        head.head.view(),
                                        nullptr,
                                        to.reward_gradient.data(),
                                        to.results.gradient.view(),
                                        with_dx ? to.results.dx.data() : nullptr,
                                        s.input + s.dx_gap};
    const Shape shape = {s.rows, s.input, 0, pairs, with_dx};
    if (one_pass) {
      Workspace workspace = make_workspace(table.linear_step_workspace(shape, executor.threads));
      table.linear_step(forward, loss, backward, executor, workspace.data());
      return to;
    }
    Workspace workspaces[] = {make_workspace(table.forward_workspace(shape, executor.threads)),
                              make_workspace(table.pair_loss_workspace(shape, executor.threads)),
                              make_workspace(table.backward_workspace(shape, executor.threads))};
    table.forward(forward, executor, workspaces[0].data());
    table.pair_loss(loss, executor, workspaces[1].data());
    table.backward(backward, executor, workspaces[2].data());
    return to;
  }

  Problem head;
  int64_t pairs;
  std::optional<Guarded<float>> margin, weight, label;
};

class LinearStep : public KernelTest, public ::testing::WithParamInterface<Dtype> {};

TEST_P(LinearStep, SameBitsAsOneAfterAnother) {
  Random random(61);
  int turn = 0;
  for (const int64_t rows : {2, 3, 4, 7, 8, 9, 15, 16, 17, 18, 31, 33, 64, 130, 257, 300, 531}) {
    for (const int64_t input : {1, 3, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 384, 1024, 1057, 2048}) {
      ++turn;
      const int64_t pairs = std::max<int64_t>(1, rows / 2 - (turn % 4 == 3 ? turn % 7 : 0));
      const Sizes sizes = {rows, input, 0, GetParam(), turn % 3, turn % 5};
      SCOPED_TRACE(::testing::Message() << sizes << " pairs " << pairs << " options " << turn % 8);
      const StepProblem problem(sizes, pairs, turn % 8, random);
      TestExecutor one(1), other(1 + turn % 7, turn % 11 ? TestExecutor::descending : TestExecutor::threaded);
      const StepResults expected = problem.run(table(), one, false, turn % 2);
      ASSERT_TRUE(same_bits(problem.run(table(), other, true, turn % 2), expected));
    }
  }
}

// Narrow rows, whose blocks are as long as blocks may be, and several to a chunk.
TEST_P(LinearStep, SameBitsOfLongBlocks) {
  Random random(63);
  for (const auto [rows, input, pairs] : {std::array<int64_t, 3>{2200, 5, 1100}, {4099, 33, 1900}}) {
    const StepProblem problem({rows, input, 0, GetParam()}, pairs, 7, random);
    TestExecutor one(1), other(3);
    const StepResults expected = problem.run(table(), one, false);
    EXPECT_TRUE(same_bits(problem.run(table(), other, true), expected)) << rows << " x " << input;
  }
}

TEST_P(LinearStep, AnyThreads) {
  Random random(62);
  const StepProblem problem({1003, 200, 0, GetParam()}, 500, 7, random);
  TestExecutor one(1);
  const StepResults expected = problem.run(table(), one, false);
  for (const int threads : {1, 2, 3, 7}) {
    for (const auto kind : {TestExecutor::descending, TestExecutor::threaded}) {
      TestExecutor executor(threads, kind);
      for (const bool one_pass : {false, true}) {
        EXPECT_TRUE(same_bits(problem.run(table(), executor, one_pass), expected)) << threads << ' ' << one_pass;
      }
    }
  }
}

// Small integers, which no sum rounds, in more rows than exact_test.cpp has: every chunk has several groups of rows.
TEST_P(LinearStep, ExactInManyChunks) {
  Random random(63);
  for (const int64_t rows : {255, 256, 257, 1000, 4099}) {
    for (const int64_t input : {5, 64, 71, 1100}) {
      if (rows * input > 2000000) continue;
      SCOPED_TRACE(::testing::Message() << rows << " rows, input " << input);
      Problem p({rows, input, 0, GetParam(), 1, 0});
      const auto value = [&](auto...) { return static_cast<double>(draw(random, -2, 2)); };
      p.fill(value, value);
      TestExecutor executor(3);
      const Results results = testing::run(table(), p, executor);
      const Expected expected(p, nullptr, false);
      for (int64_t row = 0; row < rows; ++row) ASSERT_EQ(results.rewards[row], expected.rewards[row]) << row;
      for (int64_t k = 0; k < input; ++k) ASSERT_EQ(results.gradient.w1[k], *(expected.gradient.w1.begin() + k)) << k;
    }
  }
}

// An infinity in a row without a pair, whose slope is 0, makes dw NaN there and there only, as in the backward.
TEST_P(LinearStep, RowsWithoutPairs) {
  Random random(64);
  StepProblem problem({21, 40, 0, GetParam()}, 9, 0, random);
  problem.head.set_x(19, 7, std::numeric_limits<float>::infinity());
  TestExecutor executor(2);
  const StepResults step = problem.run(table(), executor, true);
  EXPECT_TRUE(same_bits(step, problem.run(table(), executor, false)));
  for (int64_t row = 18; row < 21; ++row) EXPECT_EQ(step.reward_gradient[row], 0) << row;
  for (int64_t k = 0; k < 40; ++k) EXPECT_EQ(std::isnan(step.results.gradient.w1[k]), k == 7) << k;
  EXPECT_TRUE(std::isfinite(step.loss[0]));
}

std::string name_of(const ::testing::TestParamInfo<Dtype>& info) { return dtype_name(info.param); }
INSTANTIATE_TEST_SUITE_P(, LinearStep, ::testing::ValuesIn(kDtypes), name_of);

}  // namespace
}  // namespace rewardhead::kernels::testing
