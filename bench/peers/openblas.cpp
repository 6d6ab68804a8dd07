// SPDX-License-Identifier: Apache-2.0
//
// sgemm and sgemv of OpenBLAS, loops for the rest. The loops stay on the calling thread where OpenBLAS brings threads
// of its own: OpenMP's would spin on the same cores as OpenBLAS's, which wait for the next product by spinning too.
#include <cblas.h>

#include "bench/peers/loops.h"

namespace rewardhead::bench {
namespace {

constexpr int kOpenMp = 2;  // of openblas_get_parallel(): 0 one thread, 1 pthreads, 2 OpenMP

class OpenBlas final : public Peer {
 public:
  OpenBlas(const Problem& the_problem, int the_threads)
      : Peer(the_problem, the_threads),
        loop_threads_(openblas_get_parallel() == kOpenMp ? threads : 1),
        width_(workload.members * workload.hidden),
        parameters_(problem.parameters.pointers()),
        gradients_(results.gradients.pointers()),
        rows_(problem, rows_per_block(workload), loop_threads_) {
    const int64_t stored = workload.trains() ? workload.rows : rows_.per_block();
    activations_.resize(static_cast<size_t>(stored * width_));
    if (workload.trains()) gradients_of_z_.resize(static_cast<size_t>(rows_.per_block() * width_));
  }

  void set_threads() override { openblas_set_num_threads(threads); }

  void forward() override {
    rows_.for_each_block([&](int64_t begin, int64_t count) {
      const float* x = rows_.forward(begin, count);
      if (workload.hidden == 0) {
        cblas_sgemv(CblasRowMajor, CblasNoTrans, dim(count), input(), 1, x, input(), parameters_.w1, 1, 0,
                    results.rewards.data() + begin, 1);
        return;
      }
      float* z = activations(begin);
      if (count == 1) {
        cblas_sgemv(CblasRowMajor, CblasNoTrans, width(), input(), 1, parameters_.w1, input(), x, 1, 0, z, 1);
      } else {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, dim(count), width(), input(), 1, x, input(),
                    parameters_.w1, input(), 0, z, width());
      }
      activate_and_score(workload, parameters_, parameters_.b1, z, begin, count, results.rewards.data(), loop_threads_);
    });
  }

  void pair_loss() override { composed_pair_loss(problem, results); }

  void backward() override {
    rows_.for_each_block([&](int64_t begin, int64_t count) {
      const float* x = rows_.backward(begin, count);
      const float beta = begin == 0 ? 0 : 1;
      if (workload.hidden == 0) {
        cblas_sgemv(CblasRowMajor, CblasTrans, dim(count), input(), 1, x, input(),
                    results.reward_gradient.data() + begin, 1, beta, gradients_.w1, 1);
        return;
      }
      float* dz = gradients_of_z_.data();
      hidden_gradients(workload, parameters_, activations(begin), results.reward_gradient.data(), begin, count, dz,
                       gradients_, loop_threads_);
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, width(), input(), dim(count), 1, dz, width(), x, input(),
                  beta, gradients_.w1, input());
      if (!results.input_gradient.empty()) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, dim(count), input(), width(), 1, dz, width(),
                    parameters_.w1, input(), 0, results.input_gradient.data() + begin * workload.input, input());
      }
    });
  }

  void adamw() override {}

 private:
  static blasint dim(int64_t n) { return static_cast<blasint>(n); }
  blasint input() const { return dim(workload.input); }
  blasint width() const { return dim(width_); }
  float* activations(int64_t begin) { return activations_.data() + (workload.trains() ? begin * width_ : 0); }

  int loop_threads_;
  int64_t width_;  // hidden units of all members
  rh_tensors parameters_, gradients_;
  Rows rows_;
  Array<float> activations_, gradients_of_z_;
};

}  // namespace

PeerEntry openblas_entry() {
  const char* const kinds[] = {"one thread", "pthreads", "OpenMP"};
  return {"openblas",
          std::string(openblas_get_config()) + ", " + openblas_get_corename() + ", " + kinds[openblas_get_parallel()],
          [](const Workload& workload) { return workload.scores(); },  // loss and AdamW have no product
          [](const Problem& problem, int threads) -> std::unique_ptr<Peer> {
            return std::make_unique<OpenBlas>(problem, threads);
          }};
}

}  // namespace rewardhead::bench
