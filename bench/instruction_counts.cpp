// SPDX-License-Identifier: Apache-2.0
//
// A few calls of one small kernel and nothing else, for a count of its instructions, which unlike a time is the same on
// a busy machine. Setup costs the same for any number of calls, so under `valgrind --tool=callgrind` the cost of one is
//
//   (count of `instruction_counts KERNEL 11` - count of `instruction_counts KERNEL 1`) / 10
//
// One thread, fixed data; the instruction set is the environment's REWARDHEAD_ISA, else the best that the machine has.
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include "rewardhead/rewardhead.hpp"

namespace {

class Problem {
 public:
  explicit Problem(const rewardhead::PlanOptions& options)
      : context_({.device = RH_DEVICE_CPU, .isa = "", .threads = 1}),
        plan_(context_, options),
        workspace_(plan_),
        head_(options.input_dim, options.hidden_dim),
        state_(head_, options.rows),
        x_(static_cast<size_t>(options.rows * options.input_dim)) {
    std::mt19937 generator(1);
    const auto fill = [&](std::span<float> values, float bound) {
      for (float& v : values) v = bound * (static_cast<float>(generator()) * 0x1p-31f - 1);  // in [-bound, bound]
    };
    fill(x_, 1);
    fill(head_.values(), 0.1f);
    fill(state_.rewards, 1);
    fill(state_.reward_gradient, 0.01f);
    fill(state_.gradients.values(), 0.01f);
    for (int64_t p = 0; p < options.max_pairs; ++p) {  // every row in several pairs
      chosen_.push_back(static_cast<int32_t>(p % options.rows));
      rejected_.push_back(static_cast<int32_t>((p + 1 + p / options.rows) % options.rows));
    }
    if ((options.operations & RH_BACKWARD) != 0) forward();  // whose mask the backward reads
  }

  void forward() { plan_.forward(x(), head_, state_.rewards, workspace_); }
  void backward() { plan_.backward(x(), head_, state_.reward_gradient, state_.gradients, {}, workspace_); }
  void pair_loss() {
    plan_.pair_loss(state_.rewards, {.chosen = chosen_, .rejected = rejected_}, state_.reward_gradient, workspace_);
  }
  void step() { plan_.loss_gradients(x(), {.count = plan_.options().rows / 2}, head_, state_, {}, workspace_); }
  void adamw() { plan_.adamw({}, head_, state_, workspace_); }

 private:
  rh_matrix x() const { return rewardhead::matrix(x_, plan_.options().rows); }

  rewardhead::Context context_;
  rewardhead::Plan plan_;
  rewardhead::Workspace workspace_;
  rewardhead::Head head_;
  rewardhead::TrainingState state_;
  std::vector<float> x_;
  std::vector<int32_t> chosen_, rejected_;
};

struct Kernel {
  const char* name;
  rewardhead::PlanOptions options;
  void (Problem::*call)();
};

// Small, because callgrind runs a kernel some fifty times slower than the processor does.
const Kernel kKernels[] = {
    {"forward", {.rows = 40, .input_dim = 128, .hidden_dim = 64, .operations = RH_FORWARD}, &Problem::forward},
    {"forward_few_rows", {.rows = 3, .input_dim = 256, .hidden_dim = 64, .operations = RH_FORWARD}, &Problem::forward},
    {"backward", {.rows = 64, .input_dim = 128, .hidden_dim = 64, .operations = RH_BACKWARD}, &Problem::backward},
    {"backward_few_rows", {.rows = 8, .input_dim = 128, .hidden_dim = 64, .operations = RH_BACKWARD}, &Problem::backward},
    {"backward_wide", {.rows = 64, .input_dim = 64, .hidden_dim = 192, .operations = RH_BACKWARD}, &Problem::backward},
    {"pair_loss", {.rows = 64, .input_dim = 1, .max_pairs = 256, .operations = RH_PAIR_LOSS}, &Problem::pair_loss},
    {"linear_step",
     {.rows = 16, .input_dim = 512, .max_pairs = 8, .operations = RH_PAIR_LOSS | RH_BACKWARD},
     &Problem::step},
    {"adamw", {.rows = 1, .input_dim = 4096, .operations = RH_OPTIMIZER}, &Problem::adamw},
};

int usage() {
  std::fputs("Usage: instruction_counts KERNEL CALLS\n       instruction_counts --list\n", stderr);
  return 2;
}

int count(std::string_view name, std::string_view calls_word) {
  int calls = 0;
  const auto [end, error] = std::from_chars(calls_word.data(), calls_word.data() + calls_word.size(), calls);
  if (error != std::errc() || end != calls_word.data() + calls_word.size() || calls < 1) return usage();
  for (const Kernel& kernel : kKernels) {
    if (name != kernel.name) continue;
    Problem problem(kernel.options);
    for (int i = 0; i < calls; ++i) (problem.*kernel.call)();
    return 0;
  }
  return usage();
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc == 2 && std::strcmp(argv[1], "--list") == 0) {
    for (const Kernel& kernel : kKernels) std::puts(kernel.name);
    return 0;
  }
  return argc == 3 ? count(argv[1], argv[2]) : usage();
} catch (const std::exception& e) {
  std::fprintf(stderr, "instruction_counts: %s\n", e.what());
  return 1;
}
