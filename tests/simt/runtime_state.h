// SPDX-License-Identifier: Apache-2.0
//
// What the parts of the runtime share.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "tests/simt/runtime.h"

namespace simt {

// A piece of work. Runs after all it depends on.
struct Node {
  std::function<void(Node&)> work;
  std::vector<std::shared_ptr<Node>> after;
  std::shared_ptr<Node> predecessor;  // of a programmatic launch: the kernel that it may overlap with
  bool kernel = false, done = false;
  uint32_t launch_number = 0, unfinished_since = 0;  // of a kernel that has run
  double finished_at = 0;                            // seconds of the host's clock
};
using NodePointer = std::shared_ptr<Node>;

struct Capture {
  CUgraph_st* graph;
  CUstream_st* origin;
  cudaStreamCaptureMode mode;
  bool invalidated = false;
  std::set<CUstream_st*> streams;
};

// A copy of a parameter struct, aligned as tensor maps are.
class AlignedBytes {
 public:
  AlignedBytes(const char* from, size_t bytes) : memory_((bytes + sizeof(Line) - 1) / sizeof(Line)) {
    std::memcpy(memory_.data(), from, bytes);
  }
  const void* data() const { return memory_.data(); }

 private:
  struct alignas(TensorMap) Line {
    char bytes[sizeof(TensorMap)];
  };
  std::vector<Line> memory_;
};

struct Kernel {
  size_t parameter_bytes;
  void (*call)(const void*, const void*);
  int max_shared_bytes = 48 << 10;
};

}  // namespace simt

struct CUgraph_st {
  std::vector<simt::NodePointer> nodes;  // dependencies first
};
struct CUgraphExec_st {
  std::vector<simt::NodePointer> nodes;
};
struct CUstream_st {
  bool blocking = true;  // with respect to the default stream
  simt::NodePointer last, before_capture;
  std::vector<simt::NodePointer> waits;  // for events, not yet passed to a node
  simt::Capture* capture = nullptr;
};
struct CUevent_st {
  bool timing = true;
  simt::NodePointer node;  // null: complete
  simt::Capture* capture = nullptr;
};

namespace simt {

struct Runtime {
  std::recursive_mutex mutex;
  Schedule schedule;
  uint64_t random_state;
  cudaError_t sticky = cudaSuccess;  // of a kernel that failed: every call returns it from then on
  cudaError_t last_error = cudaSuccess;
  std::optional<Fault> fault;
  Counts counts = {};
  CUstream_st default_stream;
  std::set<CUstream_st*> streams;
  std::set<CUevent_st*> events;
  std::set<CUgraph_st*> graphs;
  std::set<CUgraphExec_st*> executables;
  std::vector<std::unique_ptr<Capture>> captures;
  std::map<char*, size_t> device_memory, host_memory;
  std::unordered_map<const void*, Kernel> kernels;  // stays through resets, as a program's code does
  std::vector<NodePointer> queue;

  Runtime();
};
Runtime& runtime();

// Holds the lock of one call.
class Call {
 public:
  Call() : lock_(runtime().mutex) {}
  // What the call returns: `error`, unless a kernel has failed; remembered for cudaGetLastError.
  cudaError_t result(cudaError_t error) const;
  static bool failed() { return runtime().sticky != cudaSuccess; }

 private:
  std::lock_guard<std::recursive_mutex> lock_;
};

// The stream that a handle names, or null where it is none.
CUstream_st* find_stream(cudaStream_t handle);
// Puts work behind what the stream has.
cudaError_t enqueue(CUstream_st& stream, NodePointer node);
cudaError_t enqueue_work(CUstream_st& stream, std::function<void(Node&)> work);
// Waits for all of it.
cudaError_t synchronize(CUstream_st& stream);
// Runs queued work until `target` is done; all of it without one.
void run_queue(const Node* target);
// Error of calls that may not happen during a capture, which they invalidate.
cudaError_t refuse_in_capture();
void invalidate(Capture& capture);
cudaError_t error_of(Hazard hazard);
double now_seconds();

}  // namespace simt
