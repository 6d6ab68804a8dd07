// SPDX-License-Identifier: Apache-2.0
//
// Every GPU workload of workloads.cpp by each implementation that this GPU has, the composed chain of cuBLASLt among
// them, in one process:
//
//   OPERATION/input:I/.../dtype:D/by:sm90a|sm80|cublaslt/data:cold|warm/launch:stream|graph
//
// A time is that of one call: of several in a row between two events, over their number. Cold: calls in turn on copies
// of all data that together are four times the L2 cache; warm: always on the same. Graph: the calls were captured once
// and are replayed, so that the processor's part of a launch does not count.
//
// An implementation is timed only after its results agreed with the first one's on the same data. The counters `flops`
// and `bytes` are of one call (workloads.h); `tensor_share` is flops over time and the tensor cores' peak, where that
// is known, `hbm_share` bytes of a cold call over time and what copying reaches, measured at the start.
#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bench/peers/cuda.h"
#include "rewardhead/rewardhead.hpp"

namespace rewardhead::bench {
namespace {

constexpr int kLeftOut = 77;
constexpr size_t kCallsOfBatch = 16;  // at least, between two events

int attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

// From one event to the other, seconds, of what `enqueue` puts between them.
class Stopwatch {
 public:
  explicit Stopwatch(cudaStream_t stream) : stream_(stream) {
    check_cuda(cudaEventCreate(&start_), "cudaEventCreate");
    check_cuda(cudaEventCreate(&stop_), "cudaEventCreate");
  }
  ~Stopwatch() {
    cudaEventDestroy(start_);
    cudaEventDestroy(stop_);
  }
  Stopwatch(const Stopwatch&) = delete;
  template <class Enqueue>
  double seconds(const Enqueue& enqueue) const {
    check_cuda(cudaEventRecord(start_, stream_), "cudaEventRecord");
    enqueue();
    check_cuda(cudaEventRecord(stop_, stream_), "cudaEventRecord");
    check_cuda(cudaEventSynchronize(stop_), "cudaEventSynchronize");
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, start_, stop_), "cudaEventElapsedTime");
    return 1e-3 * milliseconds;
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
};

// Calls that were captured.
class Graph {
 public:
  template <class Enqueue>
  Graph(cudaStream_t stream, const Enqueue& enqueue) : stream_(stream) {
    cudaGraph_t graph = nullptr;
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    std::exception_ptr failure;
    try {
      enqueue();
    } catch (...) {
      failure = std::current_exception();
    }
    const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
    if (failure) std::rethrow_exception(failure);
    check_cuda(ended, "cudaStreamEndCapture");
    const cudaError_t made = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    check_cuda(made, "cudaGraphInstantiate");
  }
  ~Graph() { cudaGraphExecDestroy(executable_); }
  Graph(const Graph&) = delete;
  void launch() const { check_cuda(cudaGraphLaunch(executable_, stream_), "cudaGraphLaunch"); }

 private:
  cudaStream_t stream_;
  cudaGraphExec_t executable_ = nullptr;
};

// What the GPU can do at most.
struct Limits {
  double copy = 0;    // bytes a second, read and written, of a copy from device memory to device memory
  double tensor = 0;  // bf16 FLOP a second at the clock that the driver calls its highest; 0: not known
};

// Multiply-adds a clock and multiprocessor, dense, bf16 with fp32 sums: NVIDIA's whitepapers of the A100 (312 TFLOP/s,
// 108 multiprocessors, 1.41 GHz) and of the H100 SXM (989 TFLOP/s, 132, 1.83 GHz). Cards of one compute capability
// 8.6, 8.9 or 12.0 differ in it by two.
double tensor_peak() {
  const int capability =
      10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor);
  const double multiply_adds = capability == 80 ? 1024 : capability == 90 ? 2048 : 0;
  return 2 * multiply_adds * attribute(cudaDevAttrMultiProcessorCount) * 1e3 * attribute(cudaDevAttrClockRate);
}

double copy_bandwidth(cudaStream_t stream) {
  const size_t bytes = std::max<size_t>(size_t{4} * static_cast<size_t>(attribute(cudaDevAttrL2CacheSize)), 64 << 20);
  void *from = nullptr, *to = nullptr;
  check_cuda(cudaMalloc(&from, bytes), "cudaMalloc");
  check_cuda(cudaMalloc(&to, bytes), "cudaMalloc");
  check_cuda(cudaMemsetAsync(from, 0, bytes, stream), "cudaMemsetAsync");
  double best = 0;
  for (int i = 0; i < 10; ++i) {
    const double seconds = Stopwatch(stream).seconds([&] {
      check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "cudaMemcpyAsync");
    });
    best = std::max(best, 2.0 * static_cast<double>(bytes) / seconds);
  }
  cudaFree(from);
  cudaFree(to);
  return best;
}

struct Implementation {
  std::string name;
  Context context;
};

// The problem of the latest workload and all who have computed it.
class Cache {
 public:
  CudaPeer& peer_of(const Workload& workload, const Implementation& who, const std::string& first_name,
                    cudaStream_t stream) {
    if (workload.name() != name_) {
      peers_.clear();
      name_.clear();
      problem_ = std::make_unique<Problem>(workload);
      name_ = workload.name();
      first_.reset();
    }
    std::unique_ptr<CudaPeer>& peer = peers_[who.name];
    if (peer) return *peer;
    auto made = std::make_unique<CudaPeer>(*problem_, who.context, stream,
                                           size_t{4} * static_cast<size_t>(attribute(cudaDevAttrL2CacheSize)));
    for (size_t set = made->sets(); set-- > 0;) {  // the backward needs each set's mask; ends with the first set
      made->use(set);
      if (workload.operation == Operation::backward || workload.operation == Operation::backward_dx) made->forward();
      made->run();
    }
    made->collect();
    if (!first_) {
      first_ = made->results;
    } else if (const std::string found = difference(*first_, made->results); !found.empty()) {
      throw std::runtime_error("not the same result as " + first_name + ": " + found);
    }
    peer = std::move(made);
    return *peer;
  }

 private:
  std::string name_;
  std::unique_ptr<Problem> problem_;
  std::map<std::string, std::unique_ptr<CudaPeer>> peers_;
  std::optional<Results> first_;
};

struct Bench {
  cudaStream_t stream = nullptr;
  std::vector<Implementation> implementations;  // best first
  Limits limits;
  Cache cache;
};

void measure(benchmark::State& state, Bench& bench, const Workload& workload, const Implementation& who, bool cold,
             bool graph) try {
  CudaPeer& peer = bench.cache.peer_of(workload, who, bench.implementations[0].name, bench.stream);
  const size_t sets = cold ? peer.sets() : 1, calls = (kCallsOfBatch + sets - 1) / sets * sets;
  const auto enqueue = [&] {
    for (size_t call = 0; call < calls; ++call) {
      peer.use(call % sets);
      peer.run();
    }
  };
  std::optional<Graph> captured;
  if (graph) captured.emplace(bench.stream, enqueue);
  const auto batch = [&] { captured ? captured->launch() : enqueue(); };
  const Stopwatch stopwatch(bench.stream);
  stopwatch.seconds(batch);
  double total = 0;
  for (auto _ : state) {
    const double seconds = stopwatch.seconds(batch) / static_cast<double>(calls);
    total += seconds;
    state.SetIterationTime(seconds);
  }
  const double seconds = total / static_cast<double>(state.iterations());
  state.SetLabel(workload.regimes);
  state.counters["flops"] = workload.flops();
  state.counters["bytes"] = workload.bytes();
  state.counters["calls"] = static_cast<double>(calls);
  if (bench.limits.tensor > 0 && workload.flops() > 0) {
    state.counters["tensor_share"] = workload.flops() / seconds / bench.limits.tensor;
  }
  if (cold) state.counters["hbm_share"] = workload.bytes() / seconds / bench.limits.copy;
} catch (const std::exception& e) {
  state.SkipWithError(e.what());
}

void register_all(Bench& bench) {
  for (const Workload& workload : cuda_workloads()) {
    for (const Implementation& who : bench.implementations) {
      for (const auto& [cold, graph] : {std::pair{true, false}, {true, true}, {false, true}}) {
        const std::string name = workload.name() + "/by:" + who.name + "/data:" + (cold ? "cold" : "warm") +
                                 "/launch:" + (graph ? "graph" : "stream");
        benchmark::RegisterBenchmark(name.c_str(),
                                     [&bench, &workload, &who, cold = cold, graph = graph](benchmark::State& state) {
                                       measure(state, bench, workload, who, cold, graph);
                                     })
            ->UseManualTime()
            ->MinTime(0.01)
            ->Unit(benchmark::kMicrosecond);
      }
    }
  }
}

// Those that this GPU has and that pass their check of themselves, which a plan brings about; of others one line each.
void find_implementations(Bench& bench) {
  for (const char* name : {"sm90a", "sm80", "cublaslt"}) {
    try {
      Context context({.device = RH_DEVICE_CUDA, .isa = name, .stream = bench.stream});
      const Plan checked(context, {.rows = 128, .input_dim = 64, .hidden_dim = 64, .max_pairs = 64});
      bench.implementations.push_back({name, std::move(context)});
    } catch (const Error& e) {
      std::fprintf(stderr, "bench_cuda: peer left out: %s: %s\n", name, e.what());
    }
  }
}

void add_context(const Bench& bench) {
  cudaDeviceProp properties = {};
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  std::string names;
  for (const Implementation& who : bench.implementations) names += (names.empty() ? "" : " ") + who.name;
  benchmark::AddCustomContext("gpu", properties.name);
  benchmark::AddCustomContext("capability", std::to_string(properties.major) + '.' + std::to_string(properties.minor));
  benchmark::AddCustomContext("multiprocessors", std::to_string(properties.multiProcessorCount));
  benchmark::AddCustomContext("clock_khz", std::to_string(attribute(cudaDevAttrClockRate)));
  benchmark::AddCustomContext("l2_bytes", std::to_string(attribute(cudaDevAttrL2CacheSize)));
  benchmark::AddCustomContext("copy_bytes_per_second", std::to_string(bench.limits.copy));
  benchmark::AddCustomContext("tensor_flops_per_second",
                              bench.limits.tensor > 0 ? std::to_string(bench.limits.tensor) : "not known");
  benchmark::AddCustomContext("implementations", names);
}

int run(int argc, char** argv) {
  Bench bench;
  try {
    const Context best({.device = RH_DEVICE_CUDA});
  } catch (const Error& e) {
    std::fprintf(stderr, "bench_cuda: left out: %s\n", e.what());
    return kLeftOut;
  }
  check_cuda(cudaStreamCreateWithFlags(&bench.stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  find_implementations(bench);
  if (bench.implementations.empty()) throw std::runtime_error("no implementation is left");
  bench.limits = {copy_bandwidth(bench.stream), tensor_peak()};
  add_context(bench);
  register_all(bench);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace
}  // namespace rewardhead::bench

int main(int argc, char** argv) try {
  return rewardhead::bench::run(argc, argv);
} catch (const std::exception& e) {
  std::fprintf(stderr, "bench_cuda: %s\n", e.what());
  return 1;
}
