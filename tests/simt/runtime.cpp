// SPDX-License-Identifier: Apache-2.0
//
// Queue, streams and events.
#include "tests/simt/runtime.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/simt/runtime_state.h"

namespace simt {
namespace {

Schedule schedule_of_environment() {
  const char* const text = std::getenv("SIMT_SCHEDULE");
  const std::string_view name = text ? text : "random";
  if (name == "random") return Schedule::random;
  if (name == "oldest-first") return Schedule::oldest_first;
  if (name == "newest-first") return Schedule::newest_first;
  std::fprintf(stderr, "SIMT_SCHEDULE is %s; expected random, oldest-first or newest-first\n", text);
  std::exit(2);
}

uint64_t next_random(uint64_t& state) {
  state = state * 6364136223846793005 + 1442695040888963407;
  return state >> 33;
}

size_t choose_ready(const std::vector<size_t>& ready) {
  Runtime& r = runtime();
  switch (r.schedule) {
    case Schedule::oldest_first:
      return ready.front();
    case Schedule::newest_first:
      return ready.back();
    case Schedule::random:
      break;
  }
  return ready[next_random(r.random_state) % ready.size()];
}

}  // namespace

Runtime::Runtime() : schedule(schedule_of_environment()) {
  const char* const seed = std::getenv("SIMT_SEED");
  random_state = seed ? std::strtoull(seed, nullptr, 10) : 1;
}

Runtime& runtime() {
  static Runtime r;
  return r;
}

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void set_schedule(Schedule schedule, uint64_t seed) {
  const Call call;
  runtime().schedule = schedule;
  runtime().random_state = seed;
}

std::optional<Fault> last_fault() {
  const Call call;
  return runtime().fault;
}

void reset_runtime() {
  const Call call;
  Runtime& r = runtime();
  r.queue.clear();
  for (CUstream_st* s : r.streams) delete s;
  for (CUevent_st* e : r.events) delete e;
  for (CUgraph_st* g : r.graphs) delete g;
  for (CUgraphExec_st* x : r.executables) delete x;
  for (const auto& [memory, bytes] : r.device_memory) simt::free(memory);
  for (const auto& [memory, bytes] : r.host_memory) std::free(memory);
  r.streams.clear();
  r.events.clear();
  r.graphs.clear();
  r.executables.clear();
  r.captures.clear();
  r.device_memory.clear();
  r.host_memory.clear();
  r.default_stream = {};
  r.sticky = r.last_error = cudaSuccess;
  r.fault.reset();
  r.counts = {};
}

Counts counts() {
  const Call call;
  const Runtime& r = runtime();
  Counts c = r.counts;
  c.live_allocations = static_cast<int64_t>(r.device_memory.size());
  for (const auto& [memory, bytes] : r.device_memory) c.live_bytes += static_cast<int64_t>(bytes);
  c.live_streams = static_cast<int64_t>(r.streams.size());
  c.live_events = static_cast<int64_t>(r.events.size());
  c.live_graphs = static_cast<int64_t>(r.graphs.size() + r.executables.size());
  return c;
}

cudaError_t Call::result(cudaError_t error) const {
  Runtime& r = runtime();
  if (r.sticky != cudaSuccess) error = r.sticky;
  if (error != cudaSuccess && error != cudaErrorNotReady) r.last_error = error;
  return error;
}

CUstream_st* find_stream(cudaStream_t handle) {
  Runtime& r = runtime();
  if (!handle) return &r.default_stream;
  return r.streams.count(handle) ? handle : nullptr;
}

void run_queue(const Node* target) {
  Runtime& r = runtime();
  while (!r.queue.empty() && r.sticky == cudaSuccess && !(target && target->done)) {
    std::vector<size_t> ready;
    for (size_t i = 0; i < r.queue.size(); ++i) {
      const auto& after = r.queue[i]->after;
      if (std::all_of(after.begin(), after.end(), [](const NodePointer& n) { return n->done; })) ready.push_back(i);
    }
    const size_t chosen = choose_ready(ready);
    const NodePointer node = r.queue[chosen];
    r.queue.erase(r.queue.begin() + static_cast<ptrdiff_t>(chosen));
    try {
      node->work(*node);
    } catch (const Fault& f) {
      std::fprintf(stderr, "software device: %s\n", f.what());
      r.fault = f;
      r.sticky = error_of(f.hazard);
    }
    node->done = true;
    node->finished_at = now_seconds();
    node->after.clear();
  }
  if (r.sticky != cudaSuccess) r.queue.clear();
}

cudaError_t enqueue(CUstream_st& stream, NodePointer node) {
  Runtime& r = runtime();
  if (r.sticky != cudaSuccess) return r.sticky;
  if (&stream == &r.default_stream) {
    if (!r.captures.empty()) return cudaErrorStreamCaptureImplicit;
    for (const CUstream_st* s : r.streams) {
      if (s->blocking && s->last) node->after.push_back(s->last);
    }
  } else if (stream.blocking && !stream.capture && r.default_stream.last) {
    node->after.push_back(r.default_stream.last);
  }
  if (stream.last) node->after.push_back(stream.last);
  node->after.insert(node->after.end(), stream.waits.begin(), stream.waits.end());
  stream.waits.clear();
  stream.last = node;
  if (stream.capture) {
    if (stream.capture->invalidated) return cudaErrorStreamCaptureInvalidated;
    stream.capture->graph->nodes.push_back(std::move(node));
  } else {
    r.queue.push_back(std::move(node));
  }
  return cudaSuccess;
}

cudaError_t enqueue_work(CUstream_st& stream, std::function<void(Node&)> work) {
  auto node = std::make_shared<Node>();
  node->work = std::move(work);
  return enqueue(stream, std::move(node));
}

cudaError_t synchronize(CUstream_st& s) {
  if (s.capture) {
    invalidate(*s.capture);
    return cudaErrorStreamCaptureUnsupported;
  }
  ++runtime().counts.synchronizations;
  if (!s.waits.empty()) enqueue_work(s, [](Node&) {});
  if (s.last) run_queue(s.last.get());
  return runtime().sticky;
}

}  // namespace simt

using namespace simt;

extern "C" {

// ---- Streams

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  const Call call;
  if (!stream || flags > cudaStreamNonBlocking) return call.result(cudaErrorInvalidValue);
  if (Call::failed()) return call.result(cudaSuccess);
  *stream = new CUstream_st;
  (*stream)->blocking = flags == cudaStreamDefault;
  runtime().streams.insert(*stream);
  return call.result(cudaSuccess);
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Call call;
  if (!stream || !find_stream(stream)) return call.result(cudaErrorInvalidResourceHandle);
  if (stream->capture) invalidate(*stream->capture);
  for (const auto& c : runtime().captures) c->streams.erase(stream);
  runtime().streams.erase(stream);
  delete stream;
  return call.result(cudaSuccess);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Call call;
  CUstream_st* const s = find_stream(stream);
  return call.result(s ? synchronize(*s) : cudaErrorInvalidResourceHandle);
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const Call call;
  CUstream_st* const s = find_stream(stream);
  if (!s) return call.result(cudaErrorInvalidResourceHandle);
  if (s->capture) {
    invalidate(*s->capture);
    return call.result(cudaErrorStreamCaptureUnsupported);
  }
  return call.result(!s->last || s->last->done ? cudaSuccess : cudaErrorNotReady);
}
cudaError_t cudaDeviceSynchronize(void) {
  const Call call;
  if (const cudaError_t error = refuse_in_capture()) return call.result(error);
  ++runtime().counts.synchronizations;
  run_queue(nullptr);
  return call.result(cudaSuccess);
}

// ---- Events

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  const Call call;
  if (!event || (flags & ~static_cast<unsigned>(cudaEventDisableTiming))) return call.result(cudaErrorInvalidValue);
  if (Call::failed()) return call.result(cudaSuccess);
  *event = new CUevent_st;
  (*event)->timing = flags == cudaEventDefault;
  runtime().events.insert(*event);
  return call.result(cudaSuccess);
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Call call;
  if (runtime().events.erase(event) == 0) return call.result(cudaErrorInvalidResourceHandle);
  delete event;
  return call.result(cudaSuccess);
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Call call;
  CUstream_st* const s = find_stream(stream);
  if (!s || !runtime().events.count(event)) return call.result(cudaErrorInvalidResourceHandle);
  // A node of its own: it also follows the events that the stream waits for, and has a time.
  if (const cudaError_t error = enqueue_work(*s, [](Node&) {})) return call.result(error);
  event->node = s->last;
  event->capture = s->capture;
  return call.result(cudaSuccess);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Call call;
  if (!runtime().events.count(event)) return call.result(cudaErrorInvalidResourceHandle);
  if (event->capture) return call.result(cudaErrorStreamCaptureUnsupported);
  ++runtime().counts.synchronizations;
  if (event->node) run_queue(event->node.get());
  return call.result(cudaSuccess);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Call call;
  if (!runtime().events.count(event)) return call.result(cudaErrorInvalidResourceHandle);
  if (event->capture) return call.result(cudaErrorStreamCaptureUnsupported);
  return call.result(!event->node || event->node->done ? cudaSuccess : cudaErrorNotReady);
}
// The host's time between the two: that of this device, which says nothing about a GPU's.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const Call call;
  if (!milliseconds) return call.result(cudaErrorInvalidValue);
  for (const cudaEvent_t e : {start, end}) {
    if (!runtime().events.count(e) || !e->timing || !e->node) return call.result(cudaErrorInvalidResourceHandle);
    if (!e->node->done) return call.result(cudaErrorNotReady);
  }
  *milliseconds = static_cast<float>((end->node->finished_at - start->node->finished_at) * 1e3);
  return call.result(cudaSuccess);
}

}  // extern "C"
