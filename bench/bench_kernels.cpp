// SPDX-License-Identifier: Apache-2.0
//
// Every kernel and the training step at the shapes that heads are trained with. The names carry the shape, so that
// bench/report.py can set PyTorch's time beside ours:
//
//   bench_kernels --benchmark_filter='step/.*threads:1'
//
// FLOP/s are those of the dense formulas (2 rows input hidden for the forward, as many again for dW1 and for dX); the
// backward adds instead of multiplying (kernels/cpu/subset_sums.h), so it may exceed the machine's multiply-add peak.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "rewardhead/rewardhead.hpp"

namespace {

struct Shape {
  int64_t input, hidden, rows, pairs;
};

// The last is the shipped data: each row scored once for all of its pairs.
constexpr Shape kShapes[] = {{384, 256, 256, 128},  {384, 256, 1052, 526},  {768, 256, 256, 128},
                             {1024, 128, 128, 64},  {4096, 256, 512, 256},  {384, 0, 4096, 2048},
                             {4096, 0, 4096, 2048}, {384, 256, 1052, 11650}};

// A head with random parameters (nn.Linear's distribution), rows and pairs, and a plan for all operations.
class Problem {
 public:
  Problem(const Shape& shape, int threads)
      : context_({.device = RH_DEVICE_CPU, .isa = "", .threads = threads}),
        x_(shape.rows * shape.input),
        chosen_(shape.pairs),
        rejected_(shape.pairs),
        head(shape.input, shape.hidden),
        state(head, shape.rows),
        plan(context_, {.rows = shape.rows,
                        .input_dim = shape.input,
                        .hidden_dim = shape.hidden,
                        .max_pairs = shape.pairs,
                        .operations = RH_TRAIN | RH_INPUT_GRADIENT}),
        workspace(plan),
        input_gradient(x_.size()) {
    std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    for (float& value : x_) value = normal(generator);
    const float bound = 1 / std::sqrt(static_cast<float>(shape.input));
    std::uniform_real_distribution<float> uniform(-bound, bound);
    for (float& value : head.values()) value = uniform(generator);
    for (int64_t p = 0; p < shape.pairs; ++p) {
      chosen_[p] = static_cast<int32_t>(2 * p % shape.rows);
      rejected_[p] = static_cast<int32_t>((2 * p + 1 + 2 * p / shape.rows) % shape.rows);
    }
    x = rewardhead::matrix(x_, shape.rows);
    pairs = {.chosen = chosen_, .rejected = rejected_};
  }

  void forward() { plan.forward(x, head, state.rewards, workspace); }
  void pair_loss() { benchmark::DoNotOptimize(plan.pair_loss(state.rewards, pairs, state.reward_gradient, workspace)); }
  void backward() { plan.backward(x, head, state.reward_gradient, state.gradients, {}, workspace); }
  void backward_with_input() {
    plan.backward(x, head, state.reward_gradient, state.gradients, input_gradient, workspace);
  }
  void adamw() { plan.adamw({}, head, state, workspace); }
  void step() {
    forward();
    pair_loss();
    backward();
  }
  void step_with_input() {
    forward();
    pair_loss();
    backward_with_input();
  }

 private:
  rewardhead::Context context_;
  std::vector<float> x_;
  std::vector<int32_t> chosen_, rejected_;

 public:
  rewardhead::Head head;
  rewardhead::TrainingState state;
  rewardhead::Plan plan;
  rewardhead::Workspace workspace;
  std::vector<float> input_gradient;
  rh_matrix x{};
  rewardhead::Pairs pairs;
};

// `products`: how many times 2 rows input max(hidden, 1) flops one call is worth.
void measure(benchmark::State& state, const Shape& shape, int threads, int products, void (Problem::*call)()) {
  Problem problem(shape, threads);
  problem.step();  // what the later parts read: mask, rewards, gradients
  for (auto _ : state) (problem.*call)();
  if (products == 0) return;
  const double flops =
      2.0 * products * static_cast<double>(shape.rows * shape.input * std::max<int64_t>(1, shape.hidden));
  state.counters["FLOP/s"] = benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace

int main(int argc, char** argv) {
  const struct {
    const char* name;
    int products;
    void (Problem::*call)();
  } calls[] = {{"forward", 1, &Problem::forward},
               {"pair_loss", 0, &Problem::pair_loss},
               {"backward", 1, &Problem::backward},
               {"backward_dx", 2, &Problem::backward_with_input},
               {"adamw", 0, &Problem::adamw},
               {"step", 2, &Problem::step},
               {"step_dx", 3, &Problem::step_with_input}};
  for (const auto& call : calls) {
    for (const Shape& shape : kShapes) {
      for (int threads : {1, 2}) {
        const std::string name = std::string(call.name) + "/input:" + std::to_string(shape.input) +
                                 "/hidden:" + std::to_string(shape.hidden) + "/rows:" + std::to_string(shape.rows) +
                                 "/pairs:" + std::to_string(shape.pairs) + "/threads:" + std::to_string(threads);
        benchmark::RegisterBenchmark(name.c_str(), measure, shape, threads, call.products, call.call)
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
      }
    }
  }
  benchmark::AddCustomContext("isa", rewardhead::Context().isa());
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
