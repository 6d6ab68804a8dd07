// SPDX-License-Identifier: Apache-2.0
#include "host/runtime/cuda_measure.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "host/runtime/cuda_memory.h"

namespace rewardhead::runtime {
namespace {

class Event {
 public:
  Event() { check_cuda(cudaEventCreate(&event_), "cudaEventCreate"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// A head and its rows, random: multiplying zeros takes less power, and so less time, than anybody's data.
class Trial {
 public:
  Trial(const kernels::Shape& shape, kernels::Dtype dtype, uint32_t operations)
      : shape_(shape), backward_(operations & RH_BACKWARD) {
    const int64_t units = shape.members * shape.hidden;
    std::mt19937 random(1);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (size_t i = 0; i < kBlock; ++i) {
      floats_[i] = uniform(random);
      // The upper half of an fp32 number is a bfloat16; as a binary16 it has magnitudes of 0.5 to 2.
      halves_[i] = static_cast<uint16_t>(__builtin_bit_cast(uint32_t, floats_[i]) >> 16);
    }
    const int64_t elements = shape.rows * shape.input;
    const void* const data = dtype == kernels::Dtype::f32 ? static_cast<void*>(fill(floats_, elements))
                                                          : static_cast<void*>(fill(halves_, elements));
    x_ = {data, dtype, shape.rows, shape.input, shape.input};
    head_ = {fill(floats_, units * shape.input), fill(floats_, units), fill(floats_, units),
             fill(floats_, shape.members)};
    rewards_ = memory_.results(shape.members * shape.rows);
    if (!backward_) return;
    reward_gradient_ = fill(floats_, shape.members * shape.rows);
    gradient_ = {memory_.results(units * shape.input), memory_.results(units), memory_.results(units),
                 memory_.results(shape.members)};
    if (shape.input_gradient) dx_ = memory_.results(elements);
  }

  // Of one candidate: its forward or its backward, which reads what any forward of its row has left in the mask.
  double time(CudaPlan candidate, bool backward, const Stopwatch& stopwatch) {
    TrialMemory own;
    candidate.device.stream = own.stream();
    check_cuda(cudaStreamSynchronize(memory_.stream()), "measuring");
    void* const scratch = own.room(cuda_scratch(candidate));
    const size_t mask_bytes = cuda_mask_bytes(candidate);
    uint64_t* const mask = mask_bytes ? static_cast<uint64_t*>(own.room(mask_bytes)) : nullptr;
    const CudaKernels kernels(candidate, scratch);
    const auto forward = [&] {
      kernels.forward({x_, shape_.hidden, head_, rewards_, mask, shape_.members, shape_.rows});
    };
    if (!backward) return stopwatch(candidate, false, forward);
    forward();
    return stopwatch(candidate, true, [&] {
      kernels.backward(
          {x_, shape_.hidden, head_, mask, reward_gradient_, gradient_, dx_, shape_.input, shape_.members});
    });
  }

 private:
  static constexpr size_t kBlock = 1 << 14;
  template <class T>
  T* fill(const T (&block)[kBlock], int64_t count) {
    T* const to = static_cast<T*>(memory_.room(count * sizeof(T)));
    for (int64_t i = 0; i < count; i += kBlock) {
      const size_t part = std::min<size_t>(count - i, kBlock);
      check_cuda(cudaMemcpyAsync(to + i, block, part * sizeof(T), cudaMemcpyHostToDevice, memory_.stream()),
                 "measuring");
    }
    return to;
  }

  TrialMemory memory_;
  float floats_[kBlock];
  uint16_t halves_[kBlock];
  const kernels::Shape& shape_;
  bool backward_;
  kernels::Matrix x_ = {};
  kernels::HeadTensors<const float> head_ = {};
  kernels::HeadTensors<float> gradient_ = {};
  float *rewards_ = nullptr, *reward_gradient_ = nullptr, *dx_ = nullptr;
};

// Sets the candidate's number of parts, a field of its MlpPlan, to the fastest of the model's, half and twice as many;
// the time.
double fastest_splits(CudaPlan& candidate, int kernels::cuda::MlpPlan::*splits, int most, bool backward, Trial& trial,
                      const Stopwatch& stopwatch) {
  const int model = candidate.mlp.*splits;
  double best_us = trial.time(candidate, backward, stopwatch);
  int best = model;
  for (const int other : {model / 2, model * 2}) {
    if (candidate.row == kCublasLt || other < 1 || other > most) continue;
    candidate.mlp.*splits = other;
    const double us = trial.time(candidate, backward, stopwatch);
    if (us < best_us) {
      best_us = us;
      best = other;
    }
  }
  candidate.mlp.*splits = best;
  return best_us;
}

}  // namespace

double event_stopwatch(const CudaPlan& candidate, bool, const std::function<void()>& run) {
  constexpr double kBatchUs = 2000;
  constexpr int kBatches = 3, kMostRuns = 200;
  const Event begin, end;
  const auto time = [&](int runs) {
    check_cuda(cudaEventRecord(begin.get(), candidate.stream()), "measuring");
    for (int i = 0; i < runs; ++i) run();
    check_cuda(cudaEventRecord(end.get(), candidate.stream()), "measuring");
    check_cuda(cudaEventSynchronize(end.get()), "measuring");
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "measuring");
    return 1e3 * static_cast<double>(milliseconds) / runs;
  };
  time(1);
  const double once = std::max(time(1), 1.0);
  const int runs = std::clamp(static_cast<int>(kBatchUs / once), 1, kMostRuns);
  double best = std::numeric_limits<double>::infinity();
  for (int batch = 0; batch < kBatches; ++batch) best = std::min(best, time(runs));
  return best;
}

CudaPlan measured_plan(const CudaContext& context, const kernels::Shape& shape, kernels::Dtype dtype,
                       uint32_t operations, const Stopwatch& stopwatch) {
  namespace cuda = kernels::cuda;
  const std::vector<CudaRow> rows = context.choose(shape, kCudaRows);
  if (shape.hidden == 0 || !(operations & RH_FORWARD)) return plan_row(context, rows[0], shape, dtype, operations);
  const CurrentDevice current(context.device().ordinal);
  Trial trial(shape, dtype, operations);
  std::optional<CudaPlan> best;
  double best_us = std::numeric_limits<double>::infinity();
  std::string failures;
  rh_status status = RH_UNSUPPORTED;
  for (const CudaRow row : rows) {
    try {
      CudaPlan candidate = plan_row(context, row, shape, dtype, operations);
      double us = fastest_splits(candidate, &cuda::MlpPlan::forward_splits, cuda::most_forward_splits(candidate.mlp),
                                 false, trial, stopwatch);
      if (operations & RH_BACKWARD) {
        us += fastest_splits(candidate, &cuda::MlpPlan::w1_splits, cuda::most_w1_splits(candidate.mlp), true, trial,
                             stopwatch);
      }
      if (!best || us < best_us) {
        best = candidate;
        best_us = us;
      }
    } catch (const ApiError& error) {  // too large for the GPU's memory, or not for cuBLASLt
      const std::string failure = std::string(kCudaImplementations[row].name) + ": " + error.what();
      if (!cuda_works()) context.end_after(failure);
      failures += (failures.empty() ? "" : "; ") + failure;
      status = error.status();
    }
  }
  if (!best) throw ApiError(status, "no candidate could be measured: " + failures);
  return *best;
}

}  // namespace rewardhead::runtime
