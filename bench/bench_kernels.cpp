// SPDX-License-Identifier: Apache-2.0
//
// Every workload of workloads.cpp by this library and by the peers that the build found, in one process:
//
//   OPERATION/input:I/hidden:H/members:M/rows:R/pairs:P/dtype:D[/density:PER_CENT]/threads:T/by:WHO
//
//   bench_kernels --benchmark_enable_random_interleaving=true --benchmark_repetitions=9
//     --benchmark_filter='^step/input:384/hidden:256/members:1/rows:256/.*threads:1/'
//
// takes all of one workload in turns. (Of several workloads in turns each would be made anew for each turn.) The label
// says where a shape comes from; the counters `flops` and `bytes` are of one call, by the dense formulas (workloads.h).
// The backward adds instead of multiplying (kernels/cpu/subset_sums.h) and may therefore exceed machine/fma.
//
// A peer is timed only after its results agreed with ours on the same data. Peers' threads keep spinning for some time
// after a call (OpenBLAS 2^26 cycles, OpenMP 300,000 turns), which makes their next call start sooner; so that they do
// not spin in someone else's time, a benchmark waits before it starts instead of changing their settings.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bench/machine.h"
#include "bench/peers/peer.h"
#include "rewardhead/rewardhead.hpp"

namespace rewardhead::bench {
namespace {

// The problem of the latest workload and all who have computed it, for repetitions in turns. A benchmark of another
// workload frees them.
class Cache {
 public:
  Peer& peer_of(const Workload& workload, const PeerEntry& entry, int threads) {
    if (workload.name() != name_) {
      peers_.clear();
      problem_.reset();
      name_.clear();
      problem_ = std::make_unique<Problem>(workload);
      name_ = workload.name();
    }
    std::unique_ptr<Peer>& peer = peers_[{entry.name, threads}];
    if (peer) return *peer;
    std::unique_ptr<Peer> made = first_run(entry, threads);
    check(entry, threads, *made);
    peer = std::move(made);
    return *peer;
  }

 private:
  std::unique_ptr<Peer> first_run(const PeerEntry& entry, int threads) {
    std::unique_ptr<Peer> peer = entry.make(*problem_, threads);
    peer->set_threads();
    if (problem_->workload.operation == Operation::backward) peer->forward();
    peer->run();
    return peer;
  }

  void check(const PeerEntry& entry, int threads, Peer& peer) {
    const std::string key = name_ + entry.name + std::to_string(threads);
    if (entry.name == "ours") return;
    if (!differences_.contains(key)) {
      peer.collect();
      differences_[key] = difference(first_run(ours_entry(), threads)->results, peer.results);
    }
    if (!differences_[key].empty()) throw std::runtime_error("not the same result as ours: " + differences_[key]);
  }

  std::string name_;
  std::unique_ptr<Problem> problem_;
  std::map<std::pair<std::string, int>, std::unique_ptr<Peer>> peers_;
  std::map<std::string, std::string> differences_;  // of all workloads so far
};

void wait_for_idle_threads(const std::string& who, int threads) {
  static std::pair<std::string, int> last;
  if (last.second > 1 && last.first != who) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  last = {who, threads};
}

void measure(benchmark::State& state, const Workload& workload, const PeerEntry& entry, int threads) try {
  static Cache cache;
  Peer& peer = cache.peer_of(workload, entry, threads);
  wait_for_idle_threads(entry.name, threads);
  peer.set_threads();
  const auto warm = std::chrono::steady_clock::now() + std::chrono::milliseconds(2);
  do peer.run();  // data in caches, threads awake
  while (std::chrono::steady_clock::now() < warm);
  for (auto _ : state) peer.run();
  state.SetLabel(workload.regimes);
  state.counters["flops"] = workload.flops();
  state.counters["bytes"] = workload.bytes();
} catch (const std::exception& e) {
  state.SkipWithError(e.what());
}

const std::vector<PeerEntry>& entries() {
  static const std::vector<PeerEntry> list = {
    ours_entry(),
#if defined(BENCH_OPENBLAS)
    openblas_entry(),
#endif
#if defined(BENCH_ONEDNN)
    onednn_entry(),
#endif
#if defined(BENCH_EIGEN)
    eigen_entry(),
#endif
  };
  return list;
}

void register_all(int most_threads) {
  for (const Workload& workload : workloads()) {
    for (int threads = 1; threads <= most_threads; ++threads) {
      for (const PeerEntry& entry : entries()) {
        const bool wanted = workload.all_peers || entry.name == "ours" || entry.name == "openblas";
        if (!wanted || !entry.supports(workload)) continue;
        const std::string name = workload.name() + "/threads:" + std::to_string(threads) + "/by:" + entry.name;
        benchmark::RegisterBenchmark(
            name.c_str(),
            [&workload, &entry, threads](benchmark::State& state) { measure(state, workload, entry, threads); })
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
      }
    }
  }
}

void add_context() {
  std::string present, missing;
  for (const PeerEntry& entry : entries()) {
    benchmark::AddCustomContext(entry.name, entry.description);
    if (entry.name != "ours") present += (present.empty() ? "" : " ") + entry.name;
  }
  for (const char* name : {"openblas", "onednn", "eigen"}) {
    if (present.find(name) == std::string::npos) missing += (missing.empty() ? "" : " ") + std::string(name);
  }
  benchmark::AddCustomContext("isa", Context().isa());
  benchmark::AddCustomContext("peers", present);
  benchmark::AddCustomContext("peers_missing", missing);
}

}  // namespace
}  // namespace rewardhead::bench

int main(int argc, char** argv) try {
  const int threads = std::min(2, rewardhead::Context().threads());
  rewardhead::bench::add_context();
  rewardhead::bench::register_all(threads);
  rewardhead::bench::register_machine(threads);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
} catch (const std::exception& e) {
  std::fprintf(stderr, "bench_kernels: %s\n", e.what());
  return 1;
}
