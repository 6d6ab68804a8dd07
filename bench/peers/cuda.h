// SPDX-License-Identifier: Apache-2.0
//
// A workload on a GPU by one of the library's implementations: the fused kernels, or the composed chain of cuBLASLt.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "bench/peers/peer.h"
#include "rewardhead/rewardhead.hpp"

namespace rewardhead::bench {

// Throws std::runtime_error that names the call.
void check_cuda(cudaError_t error, const char* call);

// Everything that a call touches lies on the device several times, so that calls in turn find nothing of theirs in the
// L2 cache: together `cold_bytes` or more, as far as half of the free memory goes. A call enqueues and does not wait.
class CudaPeer final : public Peer {
 public:
  CudaPeer(const Problem& the_problem, const Context& context, cudaStream_t stream, size_t cold_bytes);
  ~CudaPeer() override { cudaStreamSynchronize(stream_); }

  size_t sets() const { return sets_.size(); }
  void use(size_t set) { set_ = &sets_[set]; }  // by the next call

  void forward() override;
  void step() override;
  void train() override;
  void collect() override;  // waits; of the set in use

 private:
  struct Free {
    void operator()(void* memory) const { cudaFree(memory); }
  };
  struct Set {
    std::unique_ptr<void, Free> memory;
    rh_matrix x;
    rh_tensors parameters, gradients, first_moments, second_moments;
    float *rewards, *reward_gradient, *loss, *input_gradient;
    rh_pairs pairs;
    rh_workspace workspace;
  };
  class Carver;

  void pair_loss() override;
  void backward() override;
  void adamw() override;
  Set carve(Carver carver) const;
  rh_loss_arguments loss_arguments() const;

  cudaStream_t stream_;
  Plan plan_;
  std::vector<Set> sets_;
  Set* set_ = nullptr;
  int64_t steps_ = 0;
};

}  // namespace rewardhead::bench
