// SPDX-License-Identifier: Apache-2.0
//
// The same bits: for the same call again, any number of threads, any order of tasks, other addresses and leading
// dimensions, and for a row whatever rows are with it. Workspaces are all NaN at first (testing.h). And algebra that
// holds exactly on integers, or to rounding, whatever the implementation.
#include <cmath>
#include <numeric>

#include "tests/kernels/problem.h"

namespace rewardhead::kernels::testing {
namespace {

Problem random_problem(const Sizes& sizes, uint64_t seed) {
  Random random(seed);
  std::normal_distribution<double> normal;
  Problem p(sizes);
  p.fill([&](int64_t, int64_t) { return normal(random); }, [&] { return normal(random); });
  return p;
}

constexpr Sizes kShapes[] = {{1, 3, 5},      {64, 64, 96},
                             {65, 130, 97},  {200, 100, 300, Dtype::f16},
                             {500, 64, 20},  {7, 1100, 200},
                             {2, 3200, 13},  {4, 70, 250, Dtype::bf16},
                             {70, 500, 60},  {20, 121, 50, Dtype::f16},
                             {3, 5, 0},      {130, 200, 0, Dtype::bf16},
                             {1000, 300, 0}, {260, 64, 193, Dtype::bf16}};

class Bitwise : public KernelTest {};

TEST_F(Bitwise, AnyThreadsAndAnyOrder) {
  for (const Sizes& sizes : kShapes) {
    SCOPED_TRACE(::testing::Message() << sizes);
    const Problem p = random_problem(sizes, 41);
    TestExecutor one(1);
    const Results first = run(table(), p, one);
    for (const int threads : {1, 2, 3, 7}) {
      for (const auto kind : {TestExecutor::descending, TestExecutor::threaded}) {
        TestExecutor executor(threads, kind);
        EXPECT_TRUE(same_bits(run(table(), p, executor), first)) << threads << " threads, kind " << kind;
      }
    }
  }
}

// Parameters and rows at every offset from a cache line, and a longer stride.
TEST_F(Bitwise, OtherAddresses) {
  TestExecutor executor(2);
  for (const Sizes& sizes : kShapes) {
    SCOPED_TRACE(::testing::Message() << sizes);
    const Problem p = random_problem(sizes, 42);
    const Results first = run(table(), p, executor);
    for (const int64_t offset : {1, 2, 3, 5, 16}) {
      Sizes moved = sizes;
      moved.x_gap = offset;
      Problem q(moved);
      for (int64_t row = 0; row < sizes.rows; ++row) {
        for (int64_t k = 0; k < sizes.input; ++k) q.set_x(row, k, p.get_x(row, k));
      }
      const auto shifted = [&](const Guarded<float>& from) {
        Guarded<float> to(from.size() + offset);
        std::copy(from.begin(), from.end(), to.begin());
        return to;
      };
      const Guarded<float> w1 = shifted(p.head.w1), b1 = shifted(p.head.b1), w2 = shifted(p.head.w2),
                           b2 = shifted(p.head.b2), dr = shifted(p.reward_gradient);
      const HeadTensors<const float> head = {w1.data(), b1.data(), w2.data(), b2.data()};
      Results results(sizes);
      Workspace workspace =
          make_workspace(std::max(table().forward_workspace(p.shape(), 2), table().backward_workspace(p.shape(), 2)));
      uint64_t* mask = sizes.hidden ? results.mask.data() : nullptr;
      table().forward({q.matrix(), sizes.hidden, head, results.rewards.data(), mask, 1, sizes.rows,
                       results.kept_activations()},
                      executor, workspace.data());
      table().backward(
          {q.matrix(), sizes.hidden, head, mask, dr.data(), results.gradient.view(), results.dx.data(), sizes.input, 1,
           sizes.rows, results.kept_activations()},
          executor, workspace.data());
      EXPECT_TRUE(same_bits(results, first)) << "offset " << offset;
    }
  }
}

// They give dw2 in another order of sums, and nothing else.
TEST_F(Bitwise, ActivationsChangeTheRoundingOfDw2) {
  TestExecutor executor(3);
  int kept = 0;
  for (const Sizes& sizes : kShapes) {
    SCOPED_TRACE(::testing::Message() << sizes);
    const Problem p = random_problem(sizes, 46);
    const Results with = run(table(), p, executor);
    kept += with.activations.size() > 0;
    Results without(sizes);
    run_forward(table(), p, without.rewards.data(), without.mask.data(), executor);
    run_backward(table(), p, without.mask.data(), without.gradient.view(), without.dx.data(), executor);
    const Expected magnitude(p, without.mask.data(), true);
    for (int64_t h = 0; h < sizes.hidden; ++h) {
      EXPECT_NEAR(with.gradient.w2[h], without.gradient.w2[h], 1e-6 * magnitude.gradient.w2[h]) << h;
    }
    std::copy(with.gradient.w2.begin(), with.gradient.w2.end(), without.gradient.w2.begin());
    EXPECT_TRUE(same_bits(with, without));
  }
  EXPECT_GE(kept, 4);
}

// What a larger plan allots serves every smaller call.
TEST_F(Bitwise, WorkspacesGrowWithTheShape) {
  Random random(43);
  for (int i = 0; i < 2000; ++i) {
    const Shape small = {draw(random, 1, 300), draw(random, 1, 300), draw(random, 0, 300), draw(random, 1, 3000),
                         draw(random, 0, 1) == 1};
    const Shape large = {small.rows + draw(random, 0, 100), small.input, small.hidden,
                         small.pairs + draw(random, 0, 2000), small.input_gradient || draw(random, 0, 1)};
    const int threads = static_cast<int>(draw(random, 1, 8));
    EXPECT_LE(table().forward_workspace(small, threads), table().forward_workspace(large, threads));
    EXPECT_LE(table().backward_workspace(small, threads), table().backward_workspace(large, threads));
    EXPECT_LE(table().pair_loss_workspace(small, threads), table().pair_loss_workspace(large, threads));
    EXPECT_LE(table().sum_of_squares_workspace(small.pairs), table().sum_of_squares_workspace(large.pairs));
  }
}

// Rows alone, in pairs, in another order, repeated: each keeps its reward and its mask, in plans for few rows and in
// plans for many.
TEST_F(Bitwise, RowsDoNotDependOnEachOther) {
  Random random(44);
  for (const Sizes& sizes : kShapes) {
    for (const int64_t plan_rows : {int64_t{4}, int64_t{8}, int64_t{16}, std::max<int64_t>(sizes.rows, 64) + 3}) {
      SCOPED_TRACE(::testing::Message() << sizes << " in a plan for " << plan_rows);
      Sizes everything = sizes;
      everything.rows = std::min(sizes.rows, plan_rows);
      const Problem p = random_problem(everything, 45);
      TestExecutor executor(3);
      Results all(everything);
      run_forward(table(), p, all.rewards.data(), all.mask.data(), executor, plan_rows);
      for (const int64_t count : {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{5}, int64_t{7}, int64_t{14}, int64_t{17},
                                  int64_t{63}, plan_rows}) {
        if (count > plan_rows) continue;
        Sizes picked = everything;
        picked.rows = count;
        Problem q(picked);
        q.fill([](int64_t, int64_t) { return 0.0; }, [] { return 0.0; });
        for (const auto& [from, to] : {std::pair{&p.head.w1, &q.head.w1},
                                       {&p.head.b1, &q.head.b1},
                                       {&p.head.w2, &q.head.w2},
                                       {&p.head.b2, &q.head.b2}}) {
          std::copy(from->begin(), from->end(), to->begin());
        }
        std::vector<int64_t> rows(count);
        for (int64_t i = 0; i < count; ++i) {
          rows[i] = draw(random, 0, everything.rows - 1);
          for (int64_t k = 0; k < sizes.input; ++k) q.set_x(i, k, p.get_x(rows[i], k));
        }
        Results some(picked);
        TestExecutor other(1 + static_cast<int>(count % 7));
        run_forward(table(), q, some.rewards.data(), some.mask.data(), other, plan_rows);
        for (int64_t i = 0; i < count; ++i) {
          ASSERT_EQ(std::bit_cast<uint32_t>(some.rewards[i]), std::bit_cast<uint32_t>(all.rewards[rows[i]]))
              << "row " << rows[i] << " as row " << i << " of " << count;
          for (int64_t h = 0; h < sizes.hidden; ++h) {
            ASSERT_EQ(reference::is_active(some.mask.data(), sizes.hidden, i, h),
                      reference::is_active(all.mask.data(), sizes.hidden, rows[i], h));
          }
        }
      }
    }
  }
}

// <w2, dw2> = <W1, dW1> + <b1, db1>, within the bounds of accuracy_test.cpp on each side.
TEST_F(Bitwise, GradientsSatisfyTheIdentity) {
  for (const Sizes& sizes : kShapes) {
    if (sizes.hidden == 0) continue;
    SCOPED_TRACE(::testing::Message() << sizes);
    const Problem p = random_problem(sizes, 46);
    TestExecutor executor(2);
    const Results results = run(table(), p, executor);
    const Expected magnitude(p, results.mask.data(), true);
    double left = 0, right = 0, scale = 0;
    for (int64_t h = 0; h < sizes.hidden; ++h) {
      left += static_cast<double>(p.head.w2[h]) * results.gradient.w2[h];
      right += static_cast<double>(p.head.b1[h]) * results.gradient.b1[h];
      scale += std::abs(p.head.w2[h]) * magnitude.gradient.w2[h];
    }
    for (int64_t i = 0; i < p.head.w1.size(); ++i) {
      right += static_cast<double>(p.head.w1[i]) * results.gradient.w1[i];
    }
    EXPECT_NEAR(left, right, static_cast<double>(2 * sizes.rows + sizes.input + 12) * 0x1p-24 * scale);
  }
}

}  // namespace
}  // namespace rewardhead::kernels::testing
