// SPDX-License-Identifier: Apache-2.0
#include "bench/workloads.h"

#include <algorithm>

namespace rewardhead::bench {
namespace {

using enum Operation;

struct Shape {
  int64_t input, hidden, rows;
};

struct Group {
  const char* regimes;
  std::vector<Operation> operations;
  std::vector<Shape> shapes;
  rh_dtype dtype = RH_F32;
  int64_t pairs = 0;  // of pair_loss and the steps; 0: rows / 2, adjacent
  int64_t members = 1;
  int density = 0;
  bool all_peers = true;
};

std::vector<Shape> all_of(const std::vector<int64_t>& inputs, const std::vector<int64_t>& hidden,
                          const std::vector<int64_t>& rows) {
  std::vector<Shape> shapes;
  for (const int64_t i : inputs) {
    for (const int64_t h : hidden) {
      for (const int64_t r : rows) shapes.push_back({i, h, r});
    }
  }
  return shapes;
}

std::vector<Group> groups() {
  const std::vector<Shape> mlp = {{384, 256, 256},  {384, 256, 1052},   {768, 256, 256},  {1024, 128, 128},
                                  {4096, 256, 512}, {4096, 1024, 1024}, {3584, 3584, 512}};
  const std::vector<Shape> mlp_dx(mlp.begin(), mlp.begin() + 5);
  const std::vector<Shape> linear = {{384, 0, 4096}, {4096, 0, 4096}};
  const std::vector<Shape> mlp_bf16 = {{384, 256, 1052}, {4096, 256, 512}, {1024, 128, 128}};
  const std::vector<int64_t> inputs = {896, 2048, 4096};
  return {
      // Heads as they are trained: embeddings of sentences (384 to 1,024) and last hidden states (3,584, 4,096).
      {"shapes", {step, forward, backward}, mlp},
      {"shapes", {step, forward, backward}, linear},
      {"shapes", {step, forward}, mlp_bf16, RH_BF16},
      {"shapes", {step, forward}, {{4096, 0, 4096}}, RH_BF16},
      {"shapes", {step_dx}, mlp_dx},
      {"shapes", {step}, {{384, 256, 1052}}, RH_F32, 11650},  // many comparisons of the same responses
      // One response or a few: bound by reading W1, from 400 KB to 64 MB.
      {"shapes", {forward}, {{384, 256, 1}, {1024, 256, 1}, {4096, 1024, 1}, {4096, 4096, 1}}},
      {"shapes", {forward}, all_of({1024}, {256}, {4, 16})},
      {"shapes", {pair_loss}, {{0, 0, 256}}},
      {"shapes", {pair_loss}, {{0, 0, 1052}}, RH_F32, 11650},
      {"shapes", {pair_loss}, {{0, 0, 100'000}}, RH_F32, 10'000'000},
      {"shapes", {adamw}, {{3584, 3584, 0}, {384, 256, 0}}},
      // A, B: the batches of fine-tuning, a few rows a step, and of training on stored embeddings.
      {"A", {step}, all_of(inputs, {0, 256}, {2, 8, 32})},
      {"B", {step}, all_of(inputs, {0, 256}, {128, 1024})},
      {"C", {step}, {{4096, 0, 32768}}, RH_BF16},  // a probe on all of a data set, larger than every cache
      {"D", {step}, {{3584, 3584, 50}}},           // a wide head on few rows: W1 and dW1 bound it
      {"E", {step}, all_of({384, 2048, 4096}, {256, 1024}, {512, 1052})},
      // F: scoring of a corpus.
      {"F", {forward}, {{384, 256, 1'000'000}, {384, 0, 1'000'000}}},
      {"F", {forward}, {{384, 0, 1'000'000}}, RH_BF16},
      {"G", {step}, {{2048, 128, 128}}, RH_F32, 0, 20},       // an ensemble
      {"H", {forward}, all_of({2048}, {256}, {4, 50, 500})},  // best of n
      // The backward's work depends on the mask.
      {"density", {backward}, {{384, 240, 480}}, RH_F32, 0, 1, 5, false},
      {"density", {backward}, {{384, 240, 480}}, RH_F32, 0, 1, 20, false},
      {"density", {backward}, {{384, 240, 480}}, RH_F32, 0, 1, 50, false},
      {"density", {backward}, {{384, 240, 480}}, RH_F32, 0, 1, 80, false},
      // For the plots over hidden units and over rows.
      {"sweep", {step}, all_of({1024}, {32, 64, 128, 256, 512, 1024, 2048}, {256}), RH_F32, 0, 1, 0, false},
      {"sweep", {step}, all_of({1024}, {256}, {8, 16, 32, 64, 128, 256, 512, 1024, 2048}), RH_F32, 0, 1, 0, false},
  };
}

// A GPU wants larger batches than two cores do, and few rows are bound by launches.
std::vector<Group> cuda_groups() {
  const std::vector<Shape> mlp = {{4096, 256, 1024}, {4096, 1024, 2048}, {3584, 3584, 1024}, {8192, 8192, 512}};
  const std::vector<Shape> linear = {{4096, 0, 4096}};
  return {
      {"shapes", {forward, backward, backward_dx, step, step_dx, adamw, train}, mlp, RH_BF16},
      {"shapes", {forward, backward, backward_dx, step}, {{4096, 1024, 2048}}},
      {"shapes", {forward, backward, step, train}, linear, RH_BF16},
      {"shapes", {step}, linear},
      {"shapes", {pair_loss}, {{0, 0, 2048}}},
      {"shapes", {pair_loss}, {{0, 0, 1052}}, RH_F32, 11650},
      {"shapes", {pair_loss}, {{0, 0, 100'000}}, RH_F32, 10'000'000},
      {"A", {step, train}, all_of({2048, 4096}, {0, 256}, {8, 32}), RH_BF16},
      {"B", {step, train}, all_of({2048, 4096}, {0, 256}, {128, 1024}), RH_BF16},
      {"C", {step}, {{4096, 0, 32768}}, RH_BF16},
      {"D", {step}, {{3584, 3584, 50}}, RH_BF16},
      {"E", {step}, all_of({384, 2048, 4096}, {256, 1024}, {1052})},
      {"F", {forward}, {{384, 256, 1'000'000}, {384, 0, 1'000'000}}, RH_BF16},
      {"G", {step}, {{2048, 128, 128}}, RH_F32, 0, 20},
      {"H", {forward}, all_of({2048}, {256}, {4, 50, 500}), RH_BF16},
  };
}

const char* operation_name(Operation operation) {
  switch (operation) {
    case forward:
      return "forward";
    case backward:
      return "backward";
    case pair_loss:
      return "pair_loss";
    case step:
      return "step";
    case step_dx:
      return "step_dx";
    case adamw:
      return "adamw";
    case backward_dx:
      return "backward_dx";
    case train:
      return "train";
  }
  return "";
}

// The list without repetition: a shape of several regimes is measured once.
std::vector<Workload> expand(const std::vector<Group>& groups) {
  std::vector<Workload> list;
  for (const Group& group : groups) {
    for (const Operation operation : group.operations) {
      const bool has_loss =
          operation == pair_loss || operation == step || operation == step_dx || operation == train;
      for (const auto& [input, hidden, rows] : group.shapes) {
        const int64_t pairs = !has_loss ? 0 : group.pairs > 0 ? group.pairs : rows / 2;
        const Workload workload{group.regimes, operation, input,       hidden,        group.members,
                                rows,          pairs,     group.dtype, group.density, group.all_peers};
        const auto same = std::ranges::find(list, workload.name(), &Workload::name);
        if (same == list.end()) {
          list.push_back(workload);
          continue;
        }
        if (same->regimes.find(group.regimes) == std::string::npos) same->regimes += std::string(" ") + group.regimes;
        same->all_peers = same->all_peers || group.all_peers;
      }
    }
  }
  return list;
}

}  // namespace

std::string Workload::name() const {
  std::string text = operation_name(operation);
  const auto add = [&](const char* key, const std::string& value) { text += std::string("/") + key + ":" + value; };
  add("input", std::to_string(input));
  add("hidden", std::to_string(hidden));
  add("members", std::to_string(members));
  add("rows", std::to_string(rows));
  add("pairs", std::to_string(pairs));
  add("dtype", rh_dtype_name(dtype));
  if (density != 0) add("density", std::to_string(density));
  return text;
}

double Workload::flops() const {
  const double product = 2.0 * static_cast<double>(members * rows * input * std::max<int64_t>(1, hidden));
  switch (operation) {
    case forward:
    case backward:
      return product;
    case backward_dx:
    case step:
    case train:
      return 2 * product;
    case step_dx:
      return 3 * product;
    case pair_loss:
    case adamw:
      return 0;
  }
  return 0;
}

double Workload::bytes() const {
  const int64_t x = rows * input * (dtype == RH_F32 ? 4 : 2), tensors = 4 * parameters(), rewards = 4 * members * rows;
  const int64_t list = adjacent() ? 0 : 8 * pairs;
  const auto sum = [&]() -> int64_t {
    switch (operation) {
      case forward:
        return x + tensors + rewards;
      case backward:
        return x + rewards + (hidden == 0 ? 1 : 2) * tensors;  // dw of the linear head does not need w
      case backward_dx:
        return x + rewards + (hidden == 0 ? 1 : 2) * tensors + 4 * rows * input;
      case pair_loss:
        return list + 2 * rewards;
      case step:
        return x + 2 * tensors + list + 2 * rewards;
      case step_dx:
        return x + 2 * tensors + list + 2 * rewards + 4 * rows * input;
      case adamw:
        return 7 * tensors;
      case train:  // AdamW reads again what the step has read and written
        return x + 9 * tensors + list + 2 * rewards;
    }
    return 0;
  };
  return static_cast<double>(sum());
}

const std::vector<Workload>& workloads() {
  static const std::vector<Workload> list = expand(groups());
  return list;
}

const std::vector<Workload>& cuda_workloads() {
  static const std::vector<Workload> list = expand(cuda_groups());
  return list;
}

}  // namespace rewardhead::bench
