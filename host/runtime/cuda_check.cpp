// SPDX-License-Identifier: Apache-2.0
#include "host/runtime/cuda_check.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "host/runtime/cuda_memory.h"
#include "host/runtime/thread_pool.h"

namespace rewardhead::runtime {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The first that differs by more than `bound` times the largest magnitude, in words; NaN agrees with NaN.
std::string difference(const char* name, const std::vector<float>& found, const std::vector<float>& expected,
                       double bound) {
  double largest = 0;
  for (const float value : expected) largest = std::max(largest, std::abs(double{value}));
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isnan(expected[i]) && std::isnan(found[i])) continue;
    if (std::abs(double{found[i]} - expected[i]) <= bound * largest) continue;
    return std::string(name) + '[' + std::to_string(i) + "] is " + std::to_string(found[i]) + "; the CPU has " +
           std::to_string(expected[i]);
  }
  return {};
}

struct Problem {
  int64_t rows, input, hidden, members;
  kernels::Dtype dtype;
  int64_t stride;    // of X
  int splits;        // of the sums of sm80 and sm90a
  bool wide_inputs;  // X and dr have values of more than 8 bits, else W1 has
};
constexpr Problem kProblems[] = {{145, 133, 35, 2, kernels::Dtype::f32, 134, 1, true},
                                 {70, 72, 70, 1, kernels::Dtype::bf16, 80, 2, false}};
constexpr Problem kLinearProblems[] = {{70, 133, 0, 1, kernels::Dtype::f32, 134, 1, false},
                                       {50, 72, 0, 3, kernels::Dtype::bf16, 80, 1, false}};

// Of what is multiplied, one operand only is wide: the product of two second planes is what planes.h leaves out.
struct Integers {
  explicit Integers(const Problem& p) {
    std::mt19937 random(1);
    const auto draw = [&](bool wide) {  // one in three is 0: z is exactly 0 here and there
      const auto value = static_cast<float>(static_cast<int>(random() % 3) - 1);
      return wide ? 257 * value : value;
    };
    const int64_t units = p.members * p.hidden;
    x.assign(p.rows * p.stride, kNan);  // what lies between rows must not be read into a sum
    for (int64_t row = 0; row < p.rows; ++row) {
      for (int64_t k = 0; k < p.input; ++k) x[row * p.stride + k] = draw(p.wide_inputs && row % 2 == 0);
    }
    w1.resize(p.members * std::max<int64_t>(p.hidden, 1) * p.input);
    for (float& value : w1) value = draw(!p.wide_inputs && p.hidden && random() % 2);
    for (std::vector<float>* values : {&b1, &w2}) {
      values->resize(units);
      for (float& value : *values) value = draw(false);
    }
    b2.assign(p.hidden ? p.members : 0, 3.0f);
    reward_gradient.resize(p.members * p.rows);
    for (size_t i = 0; i < reward_gradient.size(); ++i) {
      reward_gradient[i] = draw(p.wide_inputs && static_cast<int64_t>(i) % p.rows % 2 == 1);
    }
    bytes.resize(x.size() * (p.dtype == kernels::Dtype::f32 ? 4 : 2));
    for (size_t i = 0; i < x.size(); ++i) {
      uint32_t bits;
      std::memcpy(&bits, &x[i], 4);
      const uint16_t half = static_cast<uint16_t>(bits >> 16);  // bfloat16 as they are
      if (p.dtype == kernels::Dtype::f32) {
        std::memcpy(bytes.data() + 4 * i, &bits, 4);
      } else {
        std::memcpy(bytes.data() + 2 * i, &half, 2);
      }
    }
  }
  std::vector<float> x, w1, b1, w2, b2, reward_gradient;
  std::vector<unsigned char> bytes;  // of X
};

struct Results {
  explicit Results(const Problem& p)
      : rewards(p.members * p.rows),
        w1(p.members * std::max<int64_t>(p.hidden, 1) * p.input),
        b1(p.members * p.hidden),
        w2(p.members * p.hidden),
        b2(p.hidden ? p.members : 0),
        dx(p.hidden || p.members == 1 ? p.rows * p.input : 0) {}
  std::vector<float> rewards, w1, b1, w2, b2, dx;
};

std::string check_head(const CudaContext& context, CudaRow row, const Problem& p) {
  const Integers in(p);
  const kernels::KernelTable& reference = kernels::reference_table();
  const kernels::Executor executor = serial_executor();
  Results expected(p);
  const bool has_dx = !expected.dx.empty();
  const kernels::Shape shape = {p.rows, p.input, p.hidden, 0, has_dx, p.members};
  {
    std::vector<uint64_t> mask(kernels::mask_blocks(p.rows) * p.members * p.hidden);
    std::vector<double> workspace(reference.backward_workspace(shape, 1) / sizeof(double) + 1);
    const kernels::Matrix x = {in.bytes.data(), p.dtype, p.rows, p.input, p.stride};
    const kernels::HeadTensors<const float> head = {in.w1.data(), in.b1.data(), in.w2.data(), in.b2.data()};
    const kernels::HeadTensors<float> gradient = {expected.w1.data(), expected.b1.data(), expected.w2.data(),
                                                  expected.b2.data()};
    const int64_t step = p.hidden ? p.members : 1;  // the CPU takes linear heads one by one
    for (int64_t member = 0; member < p.members; member += step) {
      const kernels::HeadTensors<const float> own = head.member(member, p.hidden, p.input);
      reference.forward({x, p.hidden, own, expected.rewards.data() + member * p.rows, p.hidden ? mask.data() : nullptr,
                         step},
                        executor, nullptr);
      reference.backward({x, p.hidden, own, mask.data(), in.reward_gradient.data() + member * p.rows,
                          gradient.member(member, p.hidden, p.input), has_dx ? expected.dx.data() : nullptr, p.input,
                          step},
                         executor, workspace.data());
    }
  }
  TrialMemory memory;
  // For more rows than it gets: an execute may have fewer, and algorithms of cuBLASLt are chosen for the most.
  kernels::Shape most = shape;
  most.rows = 2 * p.rows + 3;
  CudaPlan plan =
      plan_row(context, row, most, p.dtype, RH_FORWARD | RH_BACKWARD | (has_dx ? RH_INPUT_GRADIENT : 0));
  plan.device.stream = memory.stream();
  plan.mlp.forward_splits = plan.mlp.w1_splits = p.splits;
  const auto tensor = [&](const std::vector<float>& values) { return values.empty() ? nullptr : memory.put(values); };
  const auto result = [&](const std::vector<float>& like) {
    return like.empty() ? nullptr : memory.results(like.size());
  };
  const kernels::Matrix x = {memory.put(in.bytes), p.dtype, p.rows, p.input, p.stride};
  const kernels::HeadTensors<const float> head = {tensor(in.w1), tensor(in.b1), tensor(in.w2), tensor(in.b2)};
  const kernels::HeadTensors<float> gradient = {result(expected.w1), result(expected.b1), result(expected.w2),
                                                result(expected.b2)};
  float *const rewards = result(expected.rewards), *const dx = result(expected.dx);
  uint64_t* const mask = static_cast<uint64_t*>(memory.room(cuda_mask_bytes(plan)));
  // All memory before the first launch: what a kernel has done wrong may be the error of any later call.
  const float* const reward_gradient = memory.put(in.reward_gradient);
  const CudaKernels kernels(plan, memory.room(cuda_scratch(plan)));
  kernels.forward({x, p.hidden, head, rewards, mask, p.members, p.rows});
  kernels.backward({x, p.hidden, head, mask, reward_gradient, gradient, dx, p.input, p.members});
  std::string wrong;
  const auto compare = [&](const char* name, const float* from, const std::vector<float>& wanted) {
    if (wrong.empty() && !wanted.empty()) wrong = difference(name, memory.fetch(from, wanted.size()), wanted, 0);
  };
  compare("rewards", rewards, expected.rewards);
  compare("dw1", gradient.w1, expected.w1);
  compare("db1", gradient.b1, expected.b1);
  compare("dw2", gradient.w2, expected.w2);
  compare("db2", gradient.b2, expected.b2);
  compare("dx", dx, expected.dx);
  return wrong;
}

// A list of pairs with margins, weights and labels, of two members, to the rounding of an exponential.
std::string check_pair_loss(const CudaContext& context) {
  constexpr int64_t kRows = 37, kPairs = 90, kMembers = 2;
  std::mt19937 random(2);
  const auto draw = [&](int count) { return static_cast<int32_t>(random() % static_cast<unsigned>(count)); };
  std::vector<float> rewards(kMembers * kRows), gradient(kMembers * kRows), loss(kMembers);
  std::vector<float> margin(kPairs), weight(kMembers * kPairs), label(kPairs);
  std::vector<int32_t> chosen(kPairs), rejected(kPairs);
  for (float& reward : rewards) reward = 0.25f * static_cast<float>(draw(41) - 20);
  for (int64_t i = 0; i < kPairs; ++i) {
    chosen[i] = draw(kRows);
    rejected[i] = (chosen[i] + 1 + draw(kRows - 1)) % int32_t{kRows};
    margin[i] = 0.5f * static_cast<float>(draw(3));
    label[i] = 0.25f * static_cast<float>(draw(5));
  }
  for (float& value : weight) value = 0.5f * static_cast<float>(draw(5));
  const kernels::KernelTable& reference = kernels::reference_table();
  const kernels::Shape shape = {kRows, 0, 0, kPairs, false, kMembers};
  std::vector<double> workspace(reference.pair_loss_workspace(shape, 1) / sizeof(double) + 1);
  for (int64_t member = 0; member < kMembers; ++member) {
    reference.pair_loss({rewards.data() + member * kRows, kRows, kPairs, chosen.data(), rejected.data(), margin.data(),
                         weight.data() + member * kPairs, label.data(), kPairs, loss.data() + member,
                         gradient.data() + member * kRows},
                        serial_executor(), workspace.data());
  }
  TrialMemory memory;
  CudaPlan plan = plan_row(context, kSm80, shape, kernels::Dtype::f32, RH_PAIR_LOSS);
  plan.device.stream = memory.stream();
  float *const device_loss = memory.results(loss.size()), *const device_gradient = memory.results(gradient.size());
  uint32_t* const bad_pairs = static_cast<uint32_t*>(memory.room(sizeof(uint32_t)));
  const CudaKernels kernels(plan, memory.room(cuda_scratch(plan)));
  kernels.clear(bad_pairs);
  kernels.pair_loss({memory.put(rewards), kRows, kPairs, memory.put(chosen), memory.put(rejected), memory.put(margin),
                     memory.put(weight), memory.put(label), kPairs, device_loss, device_gradient, kMembers},
                    bad_pairs);
  std::string wrong = difference("loss", memory.fetch(device_loss, loss.size()), loss, 1e-5);
  if (wrong.empty()) {
    wrong = difference("reward_gradient", memory.fetch(device_gradient, gradient.size()), gradient, 1e-5);
  }
  if (wrong.empty() && read_flag(plan.device, bad_pairs)) wrong = "good pairs are taken for bad ones";
  return wrong;
}

// A clipped step of an MLP head, to a few roundings.
std::string check_adamw(const CudaContext& context) {
  constexpr int64_t kInput = 19, kHidden = 13;
  constexpr int64_t kCounts[] = {kInput * kHidden, kHidden, kHidden, 1};
  const rh_adamw_options o = {sizeof o, 1e-2, 0.9, 0.999, 1e-2, 0.1, 2.0, 3};
  std::mt19937 random(3);
  TrialMemory memory;
  std::vector<float> host[4][4];  // parameters, gradients, first and second moments; w1, b1, w2, b2
  rh_tensors device[4];
  double squares = 0;
  for (int set = 0; set < 4; ++set) {
    float* pointers[4];
    for (int tensor = 0; tensor < 4; ++tensor) {
      std::vector<float>& values = host[set][tensor];
      values.resize(kCounts[tensor]);
      for (float& value : values)
        value = 0.125f * static_cast<float>(static_cast<int>(random() % 17) - (set == 3 ? 0 : 8));
      for (const float value : values) squares += set == 1 ? double{value} * value : 0;
      pointers[tensor] = memory.put(values);
    }
    device[set] = {pointers[0], pointers[1], pointers[2], pointers[3]};
  }
  const double norm = std::sqrt(squares);
  for (int tensor = 0; tensor < 4; ++tensor) {
    kernels::reference_table().adamw({kCounts[tensor], host[0][tensor].data(), host[1][tensor].data(),
                                      host[2][tensor].data(), host[3][tensor].data(), o.learning_rate, o.beta1, o.beta2,
                                      o.epsilon, o.weight_decay, o.clip_norm / (norm + 1e-6), o.step},
                                     serial_executor());
  }
  CudaPlan plan = plan_row(context, kSm80, {1, kInput, kHidden, 0, false, 1}, kernels::Dtype::f32, RH_OPTIMIZER);
  plan.device.stream = memory.stream();
  float* const device_norm = memory.results(1);
  CudaKernels(plan, memory.room(cuda_scratch(plan))).adamw(o, device[0], device[1], device[2], device[3], device_norm);
  std::string wrong = difference("gradient_norm", memory.fetch(device_norm, 1), {static_cast<float>(norm)}, 1e-5);
  constexpr const char* kNames[] = {"parameters", "gradients", "first_moments", "second_moments"};
  for (int set = 0; set < 4; ++set) {
    const float* const pointers[] = {device[set].w1, device[set].b1, device[set].w2, device[set].b2};
    for (int tensor = 0; tensor < 4 && wrong.empty(); ++tensor) {
      wrong =
          difference(kNames[set], memory.fetch(pointers[tensor], host[set][tensor].size()), host[set][tensor], 1e-5);
    }
  }
  return wrong;
}

// What CUDA says of a kernel is what is wrong with it, too.
template <class Check>
std::string failure_of(const char* what, const Check& check) {
  std::string wrong;
  try {
    wrong = check();
  } catch (const CannotTry&) {
    throw;
  } catch (const ApiError& error) {
    wrong = error.what();
  }
  return wrong.empty() ? wrong : std::string("failed the check of its ") + what + " on this GPU: " + wrong;
}

}  // namespace

std::string check_products(const CudaContext& context, CudaRow row) {
  return failure_of("products", [&] {
    std::string wrong;
    for (const Problem& problem : kProblems) {
      if (wrong.empty()) wrong = check_head(context, row, problem);
    }
    return wrong;
  });
}

std::string check_shared_kernels(const CudaContext& context) {
  std::string wrong = failure_of("linear head", [&] {
    std::string head;
    for (const Problem& problem : kLinearProblems) {
      if (head.empty()) head = check_head(context, kSm80, problem);
    }
    return head;
  });
  if (wrong.empty()) wrong = failure_of("pair loss", [&] { return check_pair_loss(context); });
  if (wrong.empty()) wrong = failure_of("AdamW", [&] { return check_adamw(context); });
  return wrong;
}

}  // namespace rewardhead::runtime
