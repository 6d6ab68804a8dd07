// SPDX-License-Identifier: Apache-2.0
//
// Each implementation of an MLP head's products on integers, of which no sum rounds: the bits of the CPU's reference.
// Tails in every dimension, storage types, ensembles, gaps between rows, memory that is aligned to its element only,
// and fewer rows than the plan has room for.
#include <cmath>
#include <random>

#include "tests/host/cuda/on_device.h"

namespace rewardhead::runtime::testing {
namespace {

class CudaExact : public CudaTest {};

struct Case {
  Size size;
  rh_dtype dtype;
  int64_t gap = 0;         // elements between rows of X and of dX
  int64_t offset = 0;      // elements behind what cudaMalloc aligned, of X, dW1 and dX
  int64_t spare_rows = 0;  // of the plan
  int64_t nan_row = -1;    // one element of X in it is NaN, so that all units are active there
};

class Memory {
 public:
  ~Memory() {
    for (void* memory : all_) cudaFree(memory);
  }
  void* bytes(const void* values, size_t count, cudaStream_t stream) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, count));
    check(cudaMemcpyAsync(memory, values, count, cudaMemcpyHostToDevice, stream));
    check(cudaStreamSynchronize(stream));
    all_.push_back(memory);
    return memory;
  }
  float* floats(const std::vector<float>& values, cudaStream_t stream, int64_t offset = 0) {
    std::vector<float> all(values.size() + offset, NAN);
    std::copy(values.begin(), values.end(), all.begin() + offset);
    return static_cast<float*>(bytes(all.data(), all.size() * 4, stream)) + offset;
  }

 private:
  std::vector<void*> all_;
};

std::vector<float> fetch(const float* from, int64_t count, cudaStream_t stream) {
  std::vector<float> values(count);
  check(cudaMemcpyAsync(values.data(), from, count * 4, cudaMemcpyDeviceToHost, stream));
  check(cudaStreamSynchronize(stream));
  return values;
}

struct Results {
  std::vector<float> rewards, w1, b1, w2, b2, dx;
};

void expect_exact(const Context& gpu, const Context& cpu, const Case& c, cudaStream_t stream) {
  const auto [rows, input, hidden, unused, members] = c.size;
  std::mt19937 random(static_cast<unsigned>(rows * 1000 + input + hidden));
  const auto draw = [&](int first, int last) {
    return static_cast<float>(first + static_cast<int>(random() % static_cast<unsigned>(last - first + 1)));
  };
  const auto integers = [&](int64_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = draw(-2, 2);
    return values;
  };
  const int64_t stride = input + c.gap;
  std::vector<float> x = integers(rows * stride);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t k = 0; k < stride; ++k) {
      if (k >= input) x[row * stride + k] = NAN;               // must not be read into a sum
      if (k < input && row % 5 == 2) x[row * stride + k] = 0;  // z is exactly 0 where b1 is
    }
  }
  if (c.nan_row >= 0) x[c.nan_row * stride + input / 2] = NAN;
  std::vector<float> w1 = integers(members * hidden * input), b1 = integers(members * hidden);
  for (float& value : w1) value = draw(0, 2) ? 0.0f : value;
  for (float& value : b1) value = draw(0, 2) ? value : 0.0f;
  std::vector<float> w2 = integers(members * hidden), b2 = integers(members), dr = integers(members * rows);

  // X as it is stored.
  const size_t element = c.dtype == RH_F32 ? 4 : 2;
  std::vector<char> stored((c.offset + x.size()) * element);
  for (size_t i = 0; i < x.size(); ++i) {
    char* const to = stored.data() + (c.offset + i) * element;
    if (c.dtype == RH_F32) {
      std::memcpy(to, &x[i], 4);
    } else {
      uint32_t bits;  // small integers are bfloat16 as they are
      std::memcpy(&bits, &x[i], 4);
      uint16_t half = static_cast<uint16_t>(bits >> 16);
      if (c.dtype == RH_F16) {
        const float magnitude = std::abs(x[i]);
        half = static_cast<uint16_t>((bits >> 16 & 0x8000) | (std::isnan(x[i]) ? 0x7e00
                                                              : magnitude == 0 ? 0
                                                              : magnitude == 1 ? 0x3c00
                                                                               : 0x4000));
      }
      std::memcpy(to, &half, 2);
    }
  }

  rh_plan_options options = plan_options(rows, input, hidden, 1, RH_INPUT_GRADIENT);
  options.members = members;
  options.input_dtype = c.dtype;
  const auto run = [&](const rh_plan* plan, rh_workspace workspace, const void* data, const rh_tensors& parameters,
                       float* rewards, const float* reward_gradient, const rh_tensors& gradients, float* dx) {
    const rh_matrix matrix = {data, rows, stride};
    ASSERT_EQ(rh_forward(plan, &matrix, &parameters, rewards, workspace), RH_OK) << rh_last_error_message();
    ASSERT_EQ(rh_backward(plan, &matrix, &parameters, reward_gradient, &gradients, dx, stride, workspace), RH_OK)
        << rh_last_error_message();
  };
  const std::vector<float> nothing(rows * stride, NAN);
  Results expected = {dr, w1, b1, w2, b2, nothing};
  {
    const Plan plan = make_plan(cpu.get(), options);
    const WorkspaceMemory memory(plan.get());
    run(plan.get(), memory.get(), stored.data() + c.offset * element, {w1.data(), b1.data(), w2.data(), b2.data()},
        expected.rewards.data(), dr.data(),
        {expected.w1.data(), expected.b1.data(), expected.w2.data(), expected.b2.data()}, expected.dx.data());
  }
  options.rows += c.spare_rows;
  const Plan plan = make_plan(gpu.get(), options);
  const DeviceWorkspace workspace(plan.get(), stream);
  Memory memory;
  const char* const on_device = static_cast<char*>(memory.bytes(stored.data(), stored.size(), stream));
  const auto put = [&](const std::vector<float>& values, int64_t offset = 0) {
    return memory.floats(values, stream, offset);
  };
  const rh_tensors gradients = {put(w1, c.offset), put(b1), put(w2), put(b2)};
  float *const rewards = put(dr), *const dx = put(nothing, c.offset);
  run(plan.get(), workspace.get(), on_device + c.offset * element, {put(w1), put(b1), put(w2), put(b2)}, rewards,
      put(dr), gradients, dx);
  const auto same = [&](const char* name, const float* from, const std::vector<float>& want) {
    const std::vector<float> got = fetch(from, std::ssize(want), stream);
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_TRUE(got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i])))
          << name << '[' << i << "] is " << got[i] << "; expected " << want[i];
    }
  };
  same("rewards", rewards, expected.rewards);
  same("dw1", gradients.w1, expected.w1);
  same("db1", gradients.b1, expected.b1);
  same("dw2", gradients.w2, expected.w2);
  same("db2", gradients.b2, expected.b2);
  same("dx", dx, expected.dx);  // what lies between rows stays NaN
}

TEST_F(CudaExact, EveryImplementationGivesTheBitsOfTheReference) {
  const Context cpu = make_context(1, "reference");
  const Case cases[] = {{{1, 1, 1, 1, 1}, RH_F32},
                        {{2, 8, 64, 1, 1}, RH_BF16},
                        {{65, 33, 7, 1, 1}, RH_F16, 3, 1},
                        {{130, 72, 70, 1, 1}, RH_BF16, 8, 0, 30},
                        {{300, 40, 20, 1, 3}, RH_F32, 0, 0, 5},
                        {{40, 197, 130, 1, 1}, RH_F16, 0, 1},
                        {{17, 136, 72, 1, 2}, RH_BF16, 0, 3},
                        {{257, 16, 65, 1, 1}, RH_F32, 4, 0, 600},
                        {{33, 24, 20, 1, 1}, RH_BF16, 0, 0, 0, 7}};
  for (const char* isa : isas()) {
    const Context gpu = open(isa);
    for (const Case& c : cases) {
      SCOPED_TRACE(::testing::Message() << isa << ' ' << c.size.rows << " x " << c.size.input << " x "
                                        << c.size.hidden);
      expect_exact(gpu, cpu, c, stream_);
      if (HasFatalFailure()) return;
    }
  }
}

// Without RH_BACKWARD nothing is kept for it, and the composed chain needs its z all the same.
TEST_F(CudaExact, ScoringAlone) {
  const Context cpu = make_context(1, "reference");
  const std::vector<float> x = {1, 2, -1, 0, 3, -2}, w1 = {1, -1, 2, 2, 0, 1}, b1 = {1, -3}, w2 = {2, 3}, b2 = {5};
  const rh_plan_options options = plan_options(2, 3, 2, 1, RH_FORWARD);
  std::vector<float> expected(2);
  const auto score = [&](const rh_plan* plan, rh_workspace workspace, const rh_matrix& matrix,
                         const rh_tensors& parameters, float* rewards) {
    ASSERT_EQ(rh_forward(plan, &matrix, &parameters, rewards, workspace), RH_OK) << rh_last_error_message();
  };
  {
    std::vector<float> own[] = {w1, b1, w2, b2};
    const Plan plan = make_plan(cpu.get(), options);
    score(plan.get(), WorkspaceMemory(plan.get()).get(), {x.data(), 2, 3},
          {own[0].data(), own[1].data(), own[2].data(), own[3].data()}, expected.data());
  }
  for (const char* isa : isas()) {
    const Context gpu = open(isa);
    const Plan plan = make_plan(gpu.get(), options);
    const DeviceWorkspace workspace(plan.get(), stream_);
    Memory memory;
    const auto put = [&](const std::vector<float>& values) { return memory.floats(values, stream_); };
    float* const rewards = put(std::vector<float>(2, NAN));
    score(plan.get(), workspace.get(), {put(x), 2, 3}, {put(w1), put(b1), put(w2), put(b2)}, rewards);
    EXPECT_EQ(fetch(rewards, 2, stream_), expected) << isa;
  }
}

}  // namespace
}  // namespace rewardhead::runtime::testing
