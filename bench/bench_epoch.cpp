// SPDX-License-Identifier: Apache-2.0
//
// Epochs of training an MLP head on pairs from files, as a user of rewardhead.hpp writes them: each batch's distinct
// rows are gathered and scored once. bench/epoch.py writes the files and runs PyTorch in turns with this program.
//
//   bench_epoch FOLDER INPUT HIDDEN BATCH THREADS
//
// FOLDER has x.f32 [rows, INPUT], weights.f32 (w1, b1, w2, b2) and pairs.i32 [pairs, 2], chosen and rejected in the
// order of the epoch; all raw, little-endian. For each line on stdin one epoch from those weights, and its seconds and
// losses as a line of JSON.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "rewardhead/rewardhead.hpp"

namespace {

template <class T>
std::vector<T> read(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::vector<T> values(static_cast<size_t>(file.tellg()) / sizeof(T));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
  return values;
}

class Trainer {
 public:
  Trainer(const std::string& folder, int64_t input, int64_t hidden, int64_t batch, int threads)
      : x_(read<float>(folder + "/x.f32")),
        weights_(read<float>(folder + "/weights.f32")),
        pairs_(read<int32_t>(folder + "/pairs.i32")),
        input_(static_cast<size_t>(input)),
        batch_(static_cast<size_t>(batch)),
        context_({.device = RH_DEVICE_CPU, .isa = "", .threads = threads}),
        plan_(context_, {.rows = 2 * batch, .input_dim = input, .hidden_dim = hidden, .max_pairs = batch}),
        workspace_(plan_),
        head_(input, hidden),
        gathered_(2 * batch_ * input_),
        place_(x_.size() / input_, -1) {
    if (head_.values().size() != weights_.size()) throw std::runtime_error("weights.f32 has another size");
  }

  std::vector<float> epoch() {
    std::ranges::copy(weights_, head_.values().begin());
    rewardhead::TrainingState state(head_, plan_.options().rows);
    std::vector<float> losses;
    const std::span<const int32_t> pairs = pairs_;
    for (size_t begin = 0; begin < pairs.size(); begin += 2 * batch_) {
      gather(pairs.subspan(begin, std::min(2 * batch_, pairs.size() - begin)));
      const rh_matrix x{gathered_.data(), static_cast<int64_t>(rows_.size()), static_cast<int64_t>(input_)};
      losses.push_back(plan_.train_step(x, {.chosen = chosen_, .rejected = rejected_},
                                        {.learning_rate = 1e-4, .weight_decay = 0}, head_, state, workspace_));
    }
    return losses;
  }

 private:
  // The distinct rows of these pairs one after the other, and the pairs by their places there.
  void gather(std::span<const int32_t> pairs) {
    rows_.clear();
    chosen_.clear();
    rejected_.clear();
    for (size_t i = 0; i < pairs.size(); ++i) {
      int32_t& place = place_[static_cast<size_t>(pairs[i])];
      if (place < 0) {
        place = static_cast<int32_t>(rows_.size());
        rows_.push_back(pairs[i]);
      }
      (i % 2 == 0 ? chosen_ : rejected_).push_back(place);
    }
    float* to = gathered_.data();
    for (const int32_t row : rows_) {
      to = std::copy_n(&x_[static_cast<size_t>(row) * input_], input_, to);
      place_[static_cast<size_t>(row)] = -1;
    }
  }

  std::vector<float> x_, weights_;
  std::vector<int32_t> pairs_;
  size_t input_, batch_;
  rewardhead::Context context_;
  rewardhead::Plan plan_;
  rewardhead::Workspace workspace_;
  rewardhead::Head head_;
  std::vector<float> gathered_;
  std::vector<int32_t> place_;  // of each row among the batch's rows; -1: not one of them
  std::vector<int32_t> rows_, chosen_, rejected_;
};

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 6) {
    std::fputs("Usage: bench_epoch FOLDER INPUT HIDDEN BATCH THREADS\n", stderr);
    return 2;
  }
  Trainer trainer(argv[1], std::stoll(argv[2]), std::stoll(argv[3]), std::stoll(argv[4]), std::stoi(argv[5]));
  for (std::string line; std::getline(std::cin, line);) {
    const auto start = std::chrono::steady_clock::now();
    const std::vector<float> losses = trainer.epoch();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::printf("{\"seconds\": %.6f, \"losses\": [", seconds.count());
    for (size_t i = 0; i < losses.size(); ++i) std::printf("%s%.9g", i == 0 ? "" : ", ", losses[i]);
    std::puts("]}");
    std::fflush(stdout);
  }
} catch (const std::exception& e) {
  std::fprintf(stderr, "bench_epoch: %s\n", e.what());
  return 1;
}
