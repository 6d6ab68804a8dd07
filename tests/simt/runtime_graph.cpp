// SPDX-License-Identifier: Apache-2.0
//
// Capture of streams into graphs, and their replay.
#include <algorithm>
#include <set>
#include <unordered_map>

#include "tests/simt/runtime_state.h"

namespace simt {
namespace {

// Adds what `node` comes after, and itself.
void collect(const NodePointer& node, std::set<const Node*>& found) {
  if (!node || !found.insert(node.get()).second) return;
  for (const NodePointer& before : node->after) collect(before, found);
}

void leave_capture(CUstream_st& s) {
  s.capture = nullptr;
  s.last = s.before_capture;
  s.before_capture = nullptr;
  s.waits.clear();
}

void join_capture(CUstream_st& s, Capture& capture) {
  s.capture = &capture;
  s.before_capture = s.last;
  s.last = nullptr;
  s.waits.clear();
  capture.streams.insert(&s);
}

}  // namespace

void invalidate(Capture& capture) { capture.invalidated = true; }

cudaError_t refuse_in_capture() {
  cudaError_t error = cudaSuccess;
  for (const auto& c : runtime().captures) {
    if (c->mode == cudaStreamCaptureModeRelaxed) continue;
    invalidate(*c);
    error = cudaErrorStreamCaptureUnsupported;
  }
  return error;
}

}  // namespace simt

using namespace simt;

extern "C" {

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int flags) {
  const Call call;
  CUstream_st* const s = find_stream(stream);
  if (!s || !runtime().events.count(event)) return call.result(cudaErrorInvalidResourceHandle);
  if (flags) return call.result(cudaErrorInvalidValue);
  if (event->capture && !s->capture) {
    if (!stream) return call.result(cudaErrorStreamCaptureImplicit);
    join_capture(*s, *event->capture);
  }
  if (s->capture && s->capture != event->capture) {
    if (event->node && !event->capture) {
      invalidate(*s->capture);
      return call.result(cudaErrorStreamCaptureIsolation);
    }
    if (event->capture) return call.result(cudaErrorStreamCaptureMerge);
  }
  if (event->node) s->waits.push_back(event->node);
  return call.result(cudaSuccess);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const Call call;
  if (!stream) return call.result(cudaErrorStreamCaptureUnsupported);  // the default stream cannot be captured
  CUstream_st* const s = find_stream(stream);
  if (!s) return call.result(cudaErrorInvalidResourceHandle);
  if (s->capture) return call.result(cudaErrorIllegalState);
  if (Call::failed()) return call.result(cudaSuccess);
  auto capture = std::make_unique<Capture>(Capture{new CUgraph_st, s, mode, false, {}});
  runtime().graphs.insert(capture->graph);
  join_capture(*s, *capture);
  runtime().captures.push_back(std::move(capture));
  return call.result(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Call call;
  Runtime& r = runtime();
  CUstream_st* const s = find_stream(stream);
  if (!s || !graph) return call.result(cudaErrorInvalidValue);
  *graph = nullptr;
  if (!s->capture) return call.result(cudaErrorIllegalState);
  Capture& capture = *s->capture;
  if (capture.origin != s) return call.result(cudaErrorStreamCaptureUnmatched);
  std::set<const Node*> joined;
  collect(s->last, joined);
  for (const NodePointer& wait : s->waits) collect(wait, joined);
  const bool all_joined = joined.size() == capture.graph->nodes.size();
  cudaError_t error = capture.invalidated ? cudaErrorStreamCaptureInvalidated
                      : all_joined        ? cudaSuccess
                                          : cudaErrorStreamCaptureUnjoined;
  for (CUstream_st* other : capture.streams) leave_capture(*other);
  for (CUevent_st* event : r.events) {
    if (event->capture == &capture) event->capture = nullptr, event->node = nullptr;
  }
  if (error == cudaSuccess) {
    *graph = capture.graph;
  } else {
    r.graphs.erase(capture.graph);
    delete capture.graph;
  }
  std::erase_if(r.captures, [&](const auto& c) { return c.get() == &capture; });
  return call.result(error);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const Call call;
  const CUstream_st* const s = find_stream(stream);
  if (!s || !status) return call.result(cudaErrorInvalidValue);
  *status = !s->capture               ? cudaStreamCaptureStatusNone
            : s->capture->invalidated ? cudaStreamCaptureStatusInvalidated
                                      : cudaStreamCaptureStatusActive;
  return call.result(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags) {
  const Call call;
  if (!executable || !runtime().graphs.count(graph) || flags) return call.result(cudaErrorInvalidValue);
  *executable = new CUgraphExec_st{graph->nodes};
  runtime().executables.insert(*executable);
  return call.result(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const Call call;
  Runtime& r = runtime();
  CUstream_st* const s = find_stream(stream);
  if (!s || !r.executables.count(executable)) return call.result(cudaErrorInvalidValue);
  if (s->capture) {  // child graphs are not modelled
    invalidate(*s->capture);
    return call.result(cudaErrorNotSupported);
  }
  // What comes first, so that every root is behind the stream; then the copies; then what the stream goes on from.
  if (const cudaError_t error = enqueue_work(*s, [](Node&) {})) return call.result(error);
  const NodePointer before = s->last;
  std::unordered_map<const Node*, NodePointer> copies;
  auto end = std::make_shared<Node>();
  end->work = [](Node&) {};
  for (const NodePointer& n : executable->nodes) {
    auto copy = std::make_shared<Node>();
    copy->work = n->work;
    copy->kernel = n->kernel;
    for (const NodePointer& d : n->after) copy->after.push_back(copies.at(d.get()));
    if (n->predecessor) copy->predecessor = copies.at(n->predecessor.get());
    if (copy->after.empty()) copy->after.push_back(before);
    copies[n.get()] = copy;
    end->after.push_back(copy);
    r.queue.push_back(copy);
  }
  ++r.counts.graph_launches;
  return call.result(enqueue(*s, end));
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const Call call;
  if (runtime().graphs.erase(graph) == 0) return call.result(cudaErrorInvalidValue);
  delete graph;
  return call.result(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const Call call;
  if (runtime().executables.erase(executable) == 0) return call.result(cudaErrorInvalidValue);
  delete executable;
  return call.result(cudaSuccess);
}

}  // extern "C"
