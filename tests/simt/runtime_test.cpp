// SPDX-License-Identifier: Apache-2.0
//
// The runtime, by calls that a GPU's runtime answers in the same way.
#include "tests/simt/runtime.h"

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/cuda/ptx.h"

namespace simt::testing {
namespace {

struct Scale {
  const float* in;
  float* out;
  float factor;
  uint32_t count;
};
RH_KERNEL(64, 1) scale(RH_GRID_CONST const Scale p) {
  const uint32_t i = 64 * ptx::block_index() + ptx::thread_index();
  if (i < p.count) ptx::stg32f(p.out + i, p.factor * ptx::ldg32f(p.in + i));
}
RH_KERNEL(64, 1) scale_without_dependency_wait(RH_GRID_CONST const Scale p) {
  const uint32_t i = 64 * ptx::block_index() + ptx::thread_index();
  if (i < p.count) ptx::stg32f(p.out + i, p.factor * ptx::ldg32f(p.in + i));
  ptx::grid_dependency_wait();
}
RH_KERNEL(64, 1) scale_dependent(RH_GRID_CONST const Scale p) {
  ptx::grid_dependency_wait();
  const uint32_t i = 64 * ptx::block_index() + ptx::thread_index();
  if (i < p.count) ptx::stg32f(p.out + i, p.factor * ptx::ldg32f(p.in + i));
}
RH_KERNEL(64, 1) past_the_end(RH_GRID_CONST const Scale p) { ptx::stg32f(p.out + p.count + ptx::thread_index(), 1); }

class Runtime : public ::testing::Test {
 protected:
  static constexpr uint32_t kCount = 200;

  Runtime() {
    reset_runtime();
    set_schedule(Schedule::random, 1);
    for (float** memory : {&a_, &b_, &c_}) {
      EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(memory), kCount * 4), cudaSuccess);
    }
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(cudaStreamCreateWithFlags(&side_, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), cudaSuccess);
    EXPECT_EQ(cudaEventCreateWithFlags(&other_event_, cudaEventDisableTiming), cudaSuccess);
    const std::vector<float> ones(kCount, 1);
    EXPECT_EQ(cudaMemcpy(a_, ones.data(), kCount * 4, cudaMemcpyHostToDevice), cudaSuccess);
  }
  ~Runtime() override { reset_runtime(); }

  cudaError_t launch(void (*kernel)(Scale), const float* in, float* out, float factor, cudaStream_t stream,
                     bool programmatic = false) {
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((kCount + 63) / 64);
    config.blockDim = dim3(64);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = programmatic ? 1 : 0;
    return cudaLaunchKernelEx(&config, kernel, Scale{in, out, factor, kCount});
  }
  std::vector<float> read(const float* memory) {
    std::vector<float> values(kCount);
    EXPECT_EQ(cudaMemcpy(values.data(), memory, kCount * 4, cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }
  void expect_all(const float* memory, float value) { EXPECT_EQ(read(memory), std::vector<float>(kCount, value)); }

  float *a_, *b_, *c_;
  cudaStream_t stream_, side_;
  cudaEvent_t event_, other_event_;
};

TEST_F(Runtime, StreamRunsInOrder) {
  for (const Schedule schedule : {Schedule::oldest_first, Schedule::newest_first, Schedule::random}) {
    set_schedule(schedule, 5);
    ASSERT_EQ(launch(scale, a_, b_, 3, stream_), cudaSuccess);
    ASSERT_EQ(launch(scale, b_, c_, 5, stream_), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    expect_all(c_, 15);
  }
}

TEST_F(Runtime, WorkIsLazy) {
  ASSERT_EQ(launch(scale, a_, b_, 3, stream_), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(stream_), cudaErrorNotReady);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(stream_), cudaSuccess);
}

// Without the event, some schedule runs the consumer first, or another does not: with it, none does.
TEST_F(Runtime, EventOrdersStreams) {
  for (const bool with_event : {true, false}) {
    int wrong = 0;
    for (uint64_t seed = 0; seed < 16; ++seed) {
      set_schedule(seed == 0 ? Schedule::oldest_first : seed == 1 ? Schedule::newest_first : Schedule::random, seed);
      ASSERT_EQ(cudaMemsetAsync(b_, 0, kCount * 4, stream_), cudaSuccess);
      ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
      ASSERT_EQ(launch(scale, a_, b_, 3, stream_), cudaSuccess);
      ASSERT_EQ(cudaEventRecord(event_, stream_), cudaSuccess);
      if (with_event) {
        ASSERT_EQ(cudaStreamWaitEvent(side_, event_, 0), cudaSuccess);
      }
      ASSERT_EQ(launch(scale, b_, c_, 5, side_), cudaSuccess);
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      wrong += read(c_)[0] != 15;
    }
    if (with_event) {
      EXPECT_EQ(wrong, 0);
    } else {
      EXPECT_GT(wrong, 0);
    }
  }
}

TEST_F(Runtime, DefaultStreamWaitsForBlockingStreams) {
  cudaStream_t blocking;
  ASSERT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  set_schedule(Schedule::newest_first, 1);
  ASSERT_EQ(launch(scale, a_, b_, 3, blocking), cudaSuccess);
  expect_all(b_, 3);  // cudaMemcpy is in the default stream
  ASSERT_EQ(launch(scale, a_, b_, 4, nullptr), cudaSuccess);
  ASSERT_EQ(launch(scale, b_, c_, 2, blocking), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(blocking), cudaSuccess);
  expect_all(c_, 8);
}

TEST_F(Runtime, PageableMemoryIsReadAtOnceAndPinnedMemoryLater) {
  std::vector<float> pageable(kCount, 2);
  void* pinned;
  ASSERT_EQ(cudaMallocHost(&pinned, kCount * 4), cudaSuccess);
  std::memcpy(pinned, pageable.data(), kCount * 4);
  ASSERT_EQ(cudaMemcpyAsync(b_, pageable.data(), kCount * 4, cudaMemcpyHostToDevice, stream_), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(c_, pinned, kCount * 4, cudaMemcpyHostToDevice, stream_), cudaSuccess);
  std::memset(pageable.data(), 0, kCount * 4);
  std::memset(pinned, 0, kCount * 4);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  expect_all(b_, 2);
  expect_all(c_, 0);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

TEST_F(Runtime, CopiesOfRows) {
  std::vector<float> rows(10 * 7);
  std::iota(rows.begin(), rows.end(), 0.0f);
  ASSERT_EQ(cudaMemcpy2DAsync(b_, 5 * 4, rows.data(), 7 * 4, 3 * 4, 10, cudaMemcpyHostToDevice, stream_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  const std::vector<float> found = read(b_);
  for (size_t r = 0; r < 10; ++r) {
    for (size_t c = 0; c < 3; ++c) EXPECT_EQ(found[5 * r + c], rows[7 * r + c]);
  }
}

TEST_F(Runtime, CopiesCheckTheirMemory) {
  std::vector<float> host(2 * kCount);
  EXPECT_EQ(cudaMemcpyAsync(b_, host.data(), kCount * 4 + 4, cudaMemcpyHostToDevice, stream_), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(host.data(), b_, kCount * 4, cudaMemcpyHostToDevice, stream_), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(host.data(), b_ + 1, kCount * 4, cudaMemcpyDefault, stream_), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemsetAsync(host.data(), 0, 4, stream_), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(host.data(), b_, 4, cudaMemcpyDefault, stream_), cudaSuccess);
  cudaPointerAttributes attributes;
  EXPECT_EQ(cudaPointerGetAttributes(&attributes, b_ + 3), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  EXPECT_EQ(cudaPointerGetAttributes(&attributes, host.data()), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
}

TEST_F(Runtime, FreedMemoryIsNotMemory) {
  EXPECT_EQ(cudaFree(b_), cudaSuccess);
  EXPECT_EQ(cudaFree(b_), cudaErrorInvalidValue);
  ASSERT_EQ(launch(scale, a_, b_, 1, stream_), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorIllegalAddress);
  EXPECT_EQ(last_fault()->hazard, Hazard::global_out_of_bounds);
}

TEST_F(Runtime, ErrorsOfKernelsStick) {
  ASSERT_EQ(launch(past_the_end, a_, b_, 1, stream_), cudaSuccess);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);  // it has not run yet
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(launch(scale, a_, b_, 1, side_), cudaErrorIllegalAddress);
  void* memory;
  EXPECT_EQ(cudaMalloc(&memory, 4), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaMemcpyAsync(a_, a_, 4, cudaMemcpyDefault, side_), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  reset_runtime();
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&memory, 4), cudaSuccess);
}

TEST_F(Runtime, ErrorsOfCallsDoNotStick) {
  EXPECT_EQ(cudaStreamSynchronize(reinterpret_cast<cudaStream_t>(8)), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(launch(scale, a_, b_, 2, stream_), cudaSuccess);
  EXPECT_STREQ(cudaGetErrorName(cudaErrorInvalidResourceHandle), "cudaErrorInvalidResourceHandle");
}

TEST_F(Runtime, LaunchesAreChecked) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(1);
  config.blockDim = dim3(2048);
  config.stream = stream_;
  const Scale parameters = {a_, b_, 1, 1};
  EXPECT_EQ(cudaLaunchKernelEx(&config, scale, parameters), cudaErrorInvalidConfiguration);
  EXPECT_EQ(last_fault()->hazard, Hazard::occupancy);
  config.blockDim = dim3(64);
  config.dynamicSmemBytes = 48 * 1024 + 1;
  EXPECT_EQ(cudaLaunchKernelEx(&config, scale, parameters), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(scale, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 * 1024), cudaSuccess);
  EXPECT_EQ(cudaLaunchKernelEx(&config, scale, parameters), cudaSuccess);
  EXPECT_EQ(cudaFuncSetAttribute(scale, cudaFuncAttributeMaxDynamicSharedMemorySize, 256 * 1024),
            cudaErrorInvalidValue);
  void* arguments[] = {nullptr};
  EXPECT_EQ(cudaLaunchKernelExC(&config, &config, arguments), cudaErrorInvalidDeviceFunction);
  int blocks = 0;
  EXPECT_EQ(
      cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, reinterpret_cast<const void*>(&scale), 64, 64 * 1024),
      cudaSuccess);
  EXPECT_EQ(blocks, 3);
}

// ---- Graphs

class Graphs : public Runtime {
 protected:
  // b = 2 a, then c = 3 b and b = 7 a + ... on two branches; joined unless told otherwise.
  cudaError_t capture(bool join, cudaGraph_t* graph) {
    EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    EXPECT_EQ(launch(scale, a_, b_, 2, stream_), cudaSuccess);
    EXPECT_EQ(cudaEventRecord(event_, stream_), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(side_, event_, 0), cudaSuccess);
    EXPECT_EQ(launch(scale, b_, c_, 3, side_), cudaSuccess);
    EXPECT_EQ(cudaEventRecord(other_event_, side_), cudaSuccess);
    if (join) {
      EXPECT_EQ(cudaStreamWaitEvent(stream_, other_event_, 0), cudaSuccess);
    }
    if (join) {
      EXPECT_EQ(launch(scale, c_, a_, 5, stream_), cudaSuccess);
    }
    return cudaStreamEndCapture(stream_, graph);
  }
};

TEST_F(Graphs, ReplayIsWhatWasCaptured) {
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  ASSERT_EQ(capture(true, &graph), cudaSuccess);
  expect_all(a_, 1);  // nothing has run
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  float expected = 1;
  for (const Schedule schedule : {Schedule::oldest_first, Schedule::newest_first, Schedule::random}) {
    set_schedule(schedule, 3);
    ASSERT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
    ASSERT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    expect_all(a_, expected *= 900);
  }
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
}

TEST_F(Runtime, MemoryEnds) {
  const auto used = static_cast<size_t>(counts().live_bytes);
  set_device({.memory_bytes = used + 1000});
  void* memory = nullptr;
  size_t free_bytes = 0, total_bytes = 0;
  EXPECT_EQ(cudaMalloc(&memory, 1001), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
  EXPECT_EQ(free_bytes, 1000u);
  EXPECT_EQ(total_bytes, used + 1000);
  EXPECT_EQ(cudaMalloc(&memory, 1000), cudaSuccess);
  set_device({});
}

TEST_F(Graphs, UnjoinedBranchIsRefused) {
  cudaGraph_t graph;
  EXPECT_EQ(capture(false, &graph), cudaErrorStreamCaptureUnjoined);
  EXPECT_EQ(graph, nullptr);
  EXPECT_EQ(launch(scale, a_, b_, 2, side_), cudaSuccess);  // the streams are free again
  EXPECT_EQ(cudaStreamSynchronize(side_), cudaSuccess);
}

TEST_F(Graphs, WhatWaitsOrAllocatesIsRefused) {
  const auto refused = [&](auto&& call) {
    EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    EXPECT_EQ(launch(scale, a_, b_, 2, stream_), cudaSuccess);
    EXPECT_NE(call(), cudaSuccess);
    cudaStreamCaptureStatus status;
    EXPECT_EQ(cudaStreamIsCapturing(stream_, &status), cudaSuccess);
    EXPECT_EQ(status, cudaStreamCaptureStatusInvalidated);
    cudaGraph_t graph;
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureInvalidated);
  };
  void* memory;
  refused([&] { return cudaMalloc(&memory, 4); });
  refused([&] { return cudaFree(b_); });
  refused([&] { return cudaStreamSynchronize(stream_); });
  refused([&] { return cudaDeviceSynchronize(); });
  refused([&] { return cudaStreamQuery(stream_); });
  EXPECT_EQ(cudaEventRecord(event_, side_), cudaSuccess);  // outside the capture
  refused([&] { return cudaStreamWaitEvent(stream_, event_, 0); });
  EXPECT_EQ(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
}

TEST_F(Graphs, CountsTellWhatHappened) {
  cudaGraph_t graph;
  ASSERT_EQ(capture(true, &graph), cudaSuccess);
  const Counts c = counts();
  EXPECT_EQ(c.launches, 3);
  EXPECT_EQ(c.allocations, 3);
  EXPECT_EQ(c.live_bytes, 3 * kCount * 4);
  EXPECT_EQ(c.copies_to_device, 1);
  EXPECT_EQ(c.copies_to_host, 0);
  EXPECT_EQ(c.live_graphs, 1);
}

// ---- Programmatic dependent launch

class Programmatic : public Runtime, public ::testing::WithParamInterface<bool> {};  // captured in a graph or not

TEST_P(Programmatic, MustWaitBeforeItReads) {
  for (const bool waits : {true, false}) {
    if (GetParam()) {
      ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    }
    ASSERT_EQ(launch(scale, a_, b_, 2, stream_), cudaSuccess);
    ASSERT_EQ(launch(scale_dependent, a_, c_, 2, stream_, true), cudaSuccess);
    // Of two grids before: the first, too, may still be running.
    ASSERT_EQ(launch(waits ? scale_dependent : scale_without_dependency_wait, b_, a_, 2, stream_, true), cudaSuccess);
    if (GetParam()) {
      cudaGraph_t graph;
      cudaGraphExec_t executable;
      ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
      ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
      ASSERT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
    }
    EXPECT_EQ(cudaStreamSynchronize(stream_), waits ? cudaSuccess : cudaErrorLaunchFailure);
    if (!waits) {
      EXPECT_EQ(last_fault()->hazard, Hazard::early_access);
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Runtime, Programmatic, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "InAGraph" : "InAStream"; });

TEST_F(Runtime, PlainLaunchNeedsNoWait) {
  ASSERT_EQ(launch(scale, a_, b_, 2, stream_), cudaSuccess);
  ASSERT_EQ(launch(scale_without_dependency_wait, b_, c_, 2, stream_), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
}

// ---- Devices

TEST_F(Runtime, DeviceSaysWhatItIs) {
  const Device before = device();
  for (const auto& [major, minor, shared] : {std::tuple{8, 0, 163}, {8, 6, 99}, {9, 0, 227}, {12, 0, 99}}) {
    set_device({major, minor, 7});
    cudaDeviceProp p;
    ASSERT_EQ(cudaGetDeviceProperties(&p, 0), cudaSuccess);
    EXPECT_EQ(p.major, major);
    EXPECT_EQ(p.minor, minor);
    EXPECT_EQ(p.multiProcessorCount, 7);
    EXPECT_EQ(p.sharedMemPerBlockOptin, static_cast<size_t>(shared) * 1024);
    int value;
    ASSERT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0), cudaSuccess);
    EXPECT_EQ(value, major);
    EXPECT_EQ(cudaGetDeviceProperties(&p, 1), cudaErrorInvalidDevice);
  }
  Device none = before;
  none.count = 0;
  set_device(none);
  int count = -7;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
  EXPECT_EQ(count, -7);
  int driver = -7;
  EXPECT_EQ(cudaDriverGetVersion(&driver), cudaSuccess);
  EXPECT_EQ(driver, 0);
  Device old = before;
  old.old_driver = true;
  set_device(old);
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
  EXPECT_EQ(cudaDriverGetVersion(&driver), cudaSuccess);
  EXPECT_EQ(driver, 12040);
  set_device(before);
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 1);
}

TEST_F(Runtime, TensorMapsAreChecked) {
  using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                              const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                              CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  void* function;
  ASSERT_EQ(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, nullptr),
            cudaSuccess);
  const auto encode = [&](char* base, cuuint64_t inner, cuuint64_t pitch, cuuint32_t box_inner, cuuint32_t box_outer) {
    CUtensorMap map;
    const cuuint64_t sizes[2] = {inner, 10}, strides[1] = {pitch};
    const cuuint32_t box[2] = {box_inner, box_outer}, steps[2] = {1, 1};
    return reinterpret_cast<Encode>(function)(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, base, sizes, strides, box,
                                              steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                              CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  };
  char* const base = reinterpret_cast<char*>(a_);
  EXPECT_EQ(encode(base, 20, 48, 64, 8), CUDA_SUCCESS);
  EXPECT_EQ(encode(base + 2, 20, 48, 64, 8), CUDA_ERROR_INVALID_VALUE);  // base
  EXPECT_EQ(encode(base, 20, 40, 64, 8), CUDA_ERROR_INVALID_VALUE);      // pitch
  EXPECT_EQ(encode(base, 0, 48, 64, 8), CUDA_ERROR_INVALID_VALUE);       // size
  EXPECT_EQ(encode(base, 20, 48, 128, 8), CUDA_ERROR_INVALID_VALUE);     // wider than the swizzle
  EXPECT_EQ(encode(base, 20, 48, 64, 257), CUDA_ERROR_INVALID_VALUE);    // higher than a box may be
}

}  // namespace
}  // namespace simt::testing
