// SPDX-License-Identifier: Apache-2.0
//
// What the machine can do at most: multiply-adds on registers alone, and streams over memory and over the last cache.
// Vectors are GCC's and Clang's own, compiled for three targets of which the best is chosen at run time.
#include "bench/machine.h"

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "bench/problem.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace rewardhead::bench {
namespace {

#define BENCH_INLINE inline __attribute__((always_inline))

using Vector4 = float __attribute__((vector_size(16)));
using Vector8 = float __attribute__((vector_size(32)));
using Vector16 = float __attribute__((vector_size(64)));

struct Target {
  const char* name;
  int lanes;
  void (*fma)(int64_t rounds, float* out);  // kChains chains of `rounds` multiply-adds
  void (*read)(const float* from, int64_t count, float* out);
};

// Two units of latency 4, or 5 on some, need 8 to 10 independent chains; 12 of them and the constants fit 16 registers.
constexpr int kChains = 12;

template <class Vector>
BENCH_INLINE void fma_chains(int64_t rounds, float* out) {
  Vector sums[kChains];
  for (int c = 0; c < kChains; ++c) sums[c] = Vector{} + static_cast<float>(c);
  Vector factor = Vector{} + 0.999f, term = Vector{} + 0.001f;
  asm("" : "+m"(factor), "+m"(term));  // no constants to the compiler
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = sums[c] * factor + term;
  }
  Vector total = sums[0];
  for (int c = 1; c < kChains; ++c) total += sums[c];
  for (size_t lane = 0; lane < sizeof(Vector) / sizeof(float); ++lane) *out += total[lane];
}

// `from` is aligned to a vector. Read in four places at once, two vectors of each (so `count` is a multiple of 8): a
// prefetcher that works page by page fetches more where several pages are being read.
template <class Vector>
BENCH_INLINE void read_all(const float* from, int64_t count, float* out) {
  constexpr int kPlaces = 4, kSums = 8;
  const Vector* p = reinterpret_cast<const Vector*>(from);
  const int64_t distance = count / kPlaces / static_cast<int64_t>(sizeof(Vector) / sizeof(float));
  Vector sums[kSums] = {};
  for (int64_t i = 0; i < distance; i += kSums / kPlaces) {
#pragma GCC unroll 8
    for (int s = 0; s < kSums; ++s) sums[s] += p[s % kPlaces * distance + i + s / kPlaces];
  }
  for (int s = 1; s < kSums; ++s) sums[0] += sums[s];
  for (size_t lane = 0; lane < sizeof(Vector) / sizeof(float); ++lane) *out += sums[0][lane];
}

void fma_portable(int64_t rounds, float* out) { fma_chains<Vector4>(rounds, out); }
void read_portable(const float* from, int64_t count, float* out) { read_all<Vector4>(from, count, out); }
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void fma_avx2(int64_t rounds, float* out) { fma_chains<Vector8>(rounds, out); }
__attribute__((target("avx2"))) void read_avx2(const float* from, int64_t count, float* out) {
  read_all<Vector8>(from, count, out);
}
__attribute__((target("avx512f"))) void fma_avx512(int64_t rounds, float* out) { fma_chains<Vector16>(rounds, out); }
__attribute__((target("avx512f"))) void read_avx512(const float* from, int64_t count, float* out) {
  read_all<Vector16>(from, count, out);
}
#endif

Target best_target() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return {"avx512", 16, fma_avx512, read_avx512};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {"avx2", 8, fma_avx2, read_avx2};
#endif
  return {"portable", 4, fma_portable, read_portable};
}

void write_ordinary(float* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = 1;
}
void copy_ordinary(const float* from, float* to, int64_t count) {
  // In pieces too short for memcpy to go around the caches.
  for (int64_t i = 0; i < count; i += 64) __builtin_memcpy(to + i, from + i, 256);
}
#if defined(__x86_64__)
void write_streaming(float* to, int64_t count) {
  for (int64_t i = 0; i < count; i += 4) _mm_stream_ps(to + i, _mm_set1_ps(1));
  _mm_sfence();
}
void copy_streaming(const float* from, float* to, int64_t count) {
  for (int64_t i = 0; i < count; i += 4) _mm_stream_ps(to + i, _mm_load_ps(from + i));
  _mm_sfence();
}
#else
constexpr auto write_streaming = write_ordinary;
constexpr auto copy_streaming = copy_ordinary;
#endif

// part(i) on a thread each; a start costs some 30 us, so that a call should take 10 ms or more.
template <class Part>
void on_threads(int threads, const Part& part) {
  std::vector<std::jthread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back([&part, i] { part(i); });
  part(0);
}

template <class Call>
double seconds(const Call& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

constexpr int64_t kMemory = int64_t{64} << 20;  // floats, 256 MB
constexpr int64_t kCache = int64_t{2} << 20;    // floats, 8 MB

void measure_fma(benchmark::State& state, int threads) {
  const Target target = best_target();
  constexpr int64_t kRounds = 5'000'000;
  std::vector<float> sums(16 * static_cast<size_t>(threads));  // a cache line each
  for (auto _ : state) on_threads(threads, [&](int i) { target.fma(kRounds, &sums[16 * static_cast<size_t>(i)]); });
  benchmark::DoNotOptimize(sums.data());
  state.SetLabel(target.name);
  state.counters["flops"] = 2.0 * kChains * target.lanes * kRounds * threads;
}

void measure_read(benchmark::State& state, int threads, int64_t count, int passes) {
  const Target target = best_target();
  Array<float> from(static_cast<size_t>(count), 1.0f);
  const int64_t part = count / threads / 128 * 128;
  std::vector<float> sums(16 * static_cast<size_t>(threads));
  for (auto _ : state) {
    on_threads(threads, [&](int i) {
      for (int pass = 0; pass < passes; ++pass) target.read(&from[i * part], part, &sums[16 * static_cast<size_t>(i)]);
    });
  }
  benchmark::DoNotOptimize(sums.data());
  state.SetLabel(target.name);
  state.counters["bytes"] = 4.0 * static_cast<double>(part * threads * passes);
}

// Ordinary stores, which read a line before they write it, or stores around the caches: the better of the two, tried
// once each before.
template <class Ordinary, class Streaming>
void measure_better(benchmark::State& state, int threads, int64_t part, const Ordinary& ordinary,
                    const Streaming& streaming) {
  const auto call = [&](bool stream) {
    on_threads(threads, [&](int i) { stream ? streaming(i * part, part) : ordinary(i * part, part); });
  };
  call(false);
  const bool stream = seconds([&] { call(true); }) < seconds([&] { call(false); });
  for (auto _ : state) call(stream);
  state.SetLabel(stream ? "non-temporal stores" : "ordinary stores");
}

void measure_write(benchmark::State& state, int threads) {
  Array<float> to(kMemory);
  const int64_t part = kMemory / threads / 64 * 64;
  measure_better(
      state, threads, part, [&](int64_t begin, int64_t count) { write_ordinary(&to[begin], count); },
      [&](int64_t begin, int64_t count) { write_streaming(&to[begin], count); });
  benchmark::DoNotOptimize(to.data());
  state.counters["bytes"] = 4.0 * static_cast<double>(part * threads);
}

void measure_copy(benchmark::State& state, int threads) {
  Array<float> from(kMemory, 1.0f), to(kMemory);
  const int64_t part = kMemory / threads / 64 * 64;
  measure_better(
      state, threads, part, [&](int64_t begin, int64_t count) { copy_ordinary(&from[begin], &to[begin], count); },
      [&](int64_t begin, int64_t count) { copy_streaming(&from[begin], &to[begin], count); });
  benchmark::DoNotOptimize(to.data());
  state.counters["bytes"] = 8.0 * static_cast<double>(part * threads);  // read and written
}

}  // namespace

void register_machine(int most_threads) {
  for (int threads = 1; threads <= most_threads; ++threads) {
    const auto add = [threads](const char* name, auto measure) {
      const std::string full = std::string("machine/") + name + "/threads:" + std::to_string(threads);
      benchmark::RegisterBenchmark(full.c_str(), measure)->UseRealTime()->Unit(benchmark::kMillisecond);
    };
    add("fma", [threads](benchmark::State& state) { measure_fma(state, threads); });
    add("read", [threads](benchmark::State& state) { measure_read(state, threads, kMemory, 1); });
    add("read_l3", [threads](benchmark::State& state) { measure_read(state, threads, kCache, 64); });
    add("write", [threads](benchmark::State& state) { measure_write(state, threads); });
    add("copy", [threads](benchmark::State& state) { measure_copy(state, threads); });
  }
}

}  // namespace rewardhead::bench
