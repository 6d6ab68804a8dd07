// SPDX-License-Identifier: Apache-2.0
//
// A whole training step: as it is, captured in a graph and replayed, and on two streams at once; the bits are the same.
// On the software device also: launching allocates, frees, synchronises and copies nothing.
#include <cmath>

#include "tests/cuda/head.h"

namespace rewardhead::kernels::cuda::testing {
namespace {

// Heads with all that a step reads and writes. hidden 0: the linear head in one pass. Pairs are adjacent rows.
class Step {
 public:
  Step(const Problem& problem, bool wgmma)
      : head_({&problem}, 0),
        rows_(problem.sizes.rows),
        input_(problem.sizes.input),
        hidden_(problem.sizes.hidden),
        pairs_(rows_ / 2),
        plan_{rows_, input_, hidden_, 1, problem.sizes.dtype, 2, true, 4, wgmma},
        mask_(hidden_ ? static_cast<int64_t>(mlp_mask_bytes(plan_) / 4) : 0),
        first_(zeros()),
        second_(zeros()),
        loss_(1),
        reward_gradient_(rows_),
        norm_(1),
        forward_workspace_(hidden_ ? static_cast<int64_t>(mlp_forward_workspace(plan_)) : 0),
        pair_workspace_(static_cast<int64_t>(
            hidden_ ? pair_loss_workspace(rows_, pairs_, 1) : linear_step_workspace(rows_, input_, pairs_, 1))),
        backward_workspace_(hidden_ ? static_cast<int64_t>(mlp_backward_workspace(plan_)) : 0),
        adamw_workspace_(static_cast<int64_t>(adamw_workspace(input_, hidden_, 1))) {
    problem.head.each([&](const char*, const auto& tensor) { start_.emplace_back(tensor.begin(), tensor.end()); });
    for (const auto& tensor : start_) parameters_.emplace_back(std::ssize(tensor));
  }

  // The state before the step, and NaN in everything else.
  void reset(cudaStream_t on) {
    for (size_t i = 0; i < start_.size(); ++i) {
      if (start_[i].empty()) continue;
      check(cudaMemcpyAsync(parameters_[i].data(), start_[i].data(), start_[i].size() * 4, cudaMemcpyHostToDevice, on));
      check(cudaMemsetAsync(first_[i].data(), 0, start_[i].size() * 4, on));
      check(cudaMemsetAsync(second_[i].data(), 0, start_[i].size() * 4, on));
    }
    for (const Array<float>* array :
         std::initializer_list<const Array<float>*>{&loss_, &reward_gradient_, &norm_, &head_.rewards(), &head_.dx()}) {
      poison(*array, on);
    }
    for (const Array<unsigned char>* array :
         std::initializer_list<const Array<unsigned char>*>{&forward_workspace_, &pair_workspace_,
                                                            &backward_workspace_, &adamw_workspace_}) {
      poison(*array, on);
    }
    for (int i = 0; i < 4; ++i) poison(head_.gradient(i), on);
    poison(mask_, on);
    check(cudaStreamSynchronize(on));
  }

  void enqueue(cudaStream_t on) {
    uint64_t* const mask = hidden_ ? reinterpret_cast<uint64_t*>(mask_.data()) : nullptr;
    const HeadTensors<float> p = view(parameters_);
    const HeadTensors<const float> parameters = {p.w1, p.b1, p.w2, p.b2};
    const ForwardArguments forward = {head_.x(), hidden_, parameters, head_.rewards().data(), mask};
    const PairLossArguments pairs = {head_.rewards().data(), rows_,        pairs_, nullptr, nullptr, nullptr, nullptr,
                                     nullptr,                double(pairs_), loss_.data(), reward_gradient_.data()};
    const BackwardArguments backward = {head_.x(), hidden_, parameters, mask, reward_gradient_.data(),
                                        head_.gradient(), head_.dx().data(), head_.dx_stride()};
    if (hidden_) {
      check(mlp_forward(plan_, forward, forward_workspace_.data(), on));
      check(pair_loss(pairs, nullptr, pair_workspace_.data(), on));
      check(mlp_backward(plan_, backward, backward_workspace_.data(), on));
    } else {
      check(linear_step(forward, pairs, backward, pair_workspace_.data(), on));
    }
    AdamwStep step = {};
    step.parameters = p;
    step.gradients = head_.gradient();
    step.first_moments = view(first_);
    step.second_moments = view(second_);
    step.input = input_;
    step.hidden = hidden_;
    step.members = 1;
    step.learning_rate = 0.01;
    step.beta1 = 0.9;
    step.beta2 = 0.999;
    step.epsilon = 1e-8;
    step.clip_norm = 1;
    step.step = 1;
    step.gradient_norm = norm_.data();
    check(adamw(step, adamw_workspace_.data(), on));
  }

  std::vector<std::vector<float>> results() const {
    std::vector<std::vector<float>> all = {loss_.values(), norm_.values(), head_.rewards().values(), head_.dx().values(),
                                           reward_gradient_.values()};
    for (int i = 0; i < 4; ++i) all.push_back(head_.gradient(i).values());
    for (const auto* tensors : {&parameters_, &first_, &second_}) {
      for (const Array<float>& tensor : *tensors) all.push_back(tensor.values());
    }
    return all;
  }

 private:
  template <class T>
  static void poison(const Array<T>& array, cudaStream_t on) {
    check(cudaMemsetAsync(array.data(), 0xff, static_cast<size_t>(array.size()) * sizeof(T), on));
  }
  std::vector<Array<float>> zeros() const {
    std::vector<Array<float>> tensors;
    for (int i = 0; i < 4; ++i) tensors.emplace_back(head_.gradient(i).size());
    return tensors;
  }
  HeadTensors<float> view(const std::vector<Array<float>>& tensors) const {
    if (!hidden_) return {tensors[0].data(), nullptr, nullptr, nullptr};
    return {tensors[0].data(), tensors[1].data(), tensors[2].data(), tensors[3].data()};
  }

  DeviceHead head_;
  int64_t rows_, input_, hidden_, pairs_;
  MlpPlan plan_;
  std::vector<std::vector<float>> start_;
  std::vector<Array<float>> parameters_;
  Array<uint32_t> mask_;
  std::vector<Array<float>> first_, second_;
  Array<float> loss_, reward_gradient_, norm_;
  Array<unsigned char> forward_workspace_, pair_workspace_, backward_workspace_, adamw_workspace_;
};

bool same_results(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (!same_bits(a[i], b[i])) return false;
  }
  return a.size() == b.size();
}

struct Variant {
  int64_t hidden;
  bool wgmma;
};
constexpr Variant kVariants[] = {{0, false}, {72, false}, {72, true}};

Problem step_problem(const Variant& variant, Random& random) {
  return normal_problem({70, 40, variant.hidden, Dtype::bf16}, random);
}

void expect_replay(const Problem& problem, bool wgmma) {
  if (wgmma && capability() != 90) return;
  SCOPED_TRACE(::testing::Message() << problem.sizes << " wgmma " << wgmma);
  Step step(problem, wgmma);
  step.reset(stream());
  step.enqueue(stream());
  const auto expected = step.results();
  ASSERT_TRUE(std::isfinite(expected[0][0]));

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal));
  step.enqueue(stream());
  check(cudaStreamEndCapture(stream(), &graph));
  check(cudaGraphInstantiate(&executable, graph, 0));
  for (int replay = 0; replay < 2; ++replay) {
    step.reset(stream());
    check(cudaGraphLaunch(executable, stream()));
    ASSERT_TRUE(same_results(step.results(), expected)) << "replay " << replay;
  }
  check(cudaGraphExecDestroy(executable));
  check(cudaGraphDestroy(graph));
}

TEST_P(DeviceTest, StepReplaysFromAGraph) {
  Random random(61);
  for (const Variant& variant : kVariants) {
    expect_replay(step_problem(variant, random), variant.wgmma);
    if (HasFatalFailure()) return;
  }
}

void expect_apart(const Problem& one, bool one_wgmma, const Problem& other, bool other_wgmma) {
  if ((one_wgmma || other_wgmma) && capability() != 90) return;
  SCOPED_TRACE(::testing::Message() << one.sizes << ", " << other.sizes);
  Step steps[] = {Step(one, one_wgmma), Step(other, other_wgmma)};
  std::vector<std::vector<float>> expected[2];
  for (int i = 0; i < 2; ++i) {
    steps[i].reset(stream());
    steps[i].enqueue(stream());
    expected[i] = steps[i].results();
    steps[i].reset(stream());
  }
  // The second stream forks from the first and joins it again.
  cudaStream_t side = nullptr;
  cudaEvent_t fork = nullptr, joined = nullptr;
  check(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking));
  check(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
  check(cudaEventCreateWithFlags(&joined, cudaEventDisableTiming));
  check(cudaEventRecord(fork, stream()));
  check(cudaStreamWaitEvent(side, fork, 0));
  steps[0].enqueue(stream());
  steps[1].enqueue(side);
  check(cudaEventRecord(joined, side));
  check(cudaStreamWaitEvent(stream(), joined, 0));
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(same_results(steps[i].results(), expected[i])) << i;
  check(cudaEventDestroy(fork));
  check(cudaEventDestroy(joined));
  check(cudaStreamDestroy(side));
}

TEST_P(DeviceTest, StepsOfTwoStreamsKeepApart) {
  Random random(62);
  expect_apart(step_problem(kVariants[1], random), false, step_problem(kVariants[0], random), false);
}

#if REWARDHEAD_SIMT
TEST_P(DeviceTest, StepOnlyEnqueues) {
  Random random(63);
  for (const Variant& variant : kVariants) {
    if (variant.wgmma && capability() != 90) continue;
    const Problem problem = step_problem(variant, random);
    Step step(problem, variant.wgmma);
    step.reset(stream());
    const simt::Counts before = simt::counts();
    step.enqueue(stream());
    const simt::Counts after = simt::counts();
    EXPECT_GT(after.launches, before.launches);
    EXPECT_EQ(after.allocations, before.allocations);
    EXPECT_EQ(after.frees, before.frees);
    EXPECT_EQ(after.synchronizations, before.synchronizations);
    EXPECT_EQ(after.copies_to_host, before.copies_to_host);
    EXPECT_EQ(after.copies_to_device, before.copies_to_device);
  }
}
#endif

class GeneratedStep : public GeneratedTest {
 protected:
  Problem draw_problem() {
    const int64_t hidden = one_in(3) ? 0 : draw_of({{1, 10}, {62, 68}});
    Sizes s = {draw_of({{2, 30}, {126, 132}}), draw_of({{1, 30}, {62, 68}}), hidden, kDtypes[draw(random, 0, 2)]};
    s.x_gap = draw(random, 0, 4);
    s.dx_gap = draw(random, 0, 2);
    return normal_problem(s, random);
  }
  bool draw_wgmma() { return one_in(2) && capability() == 90; }
};
TEST_P(GeneratedStep, ReplaysFromAGraph) {
  const Problem problem = draw_problem();
  expect_replay(problem, draw_wgmma());
}
TEST_P(GeneratedStep, TwoStreamsKeepApart) {
  const Problem one = draw_problem(), other = draw_problem();
  const bool one_wgmma = draw_wgmma();
  expect_apart(one, one_wgmma, other, draw_wgmma());
}
RH_GENERATE(GeneratedStep, 50);

}  // namespace
}  // namespace rewardhead::kernels::cuda::testing
