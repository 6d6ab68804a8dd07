// SPDX-License-Identifier: Apache-2.0
//
// Eigen's expressions. Of these Eigen spreads products of two matrices over threads, and nothing else.
#include <Eigen/Core>
#include <cmath>

#include "bench/peers/loops.h"

namespace rewardhead::bench {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Eigen::ArrayXf;
using Eigen::Map;
using Eigen::VectorXf;

class EigenPeer final : public Peer {
 public:
  EigenPeer(const Problem& the_problem, int the_threads)
      : Peer(the_problem, the_threads),
        width_(workload.members * workload.hidden),
        parameters_(problem.parameters.pointers()),
        gradients_(results.gradients.pointers()),
        rows_(problem, rows_per_block(workload), threads) {
    a_.resize(workload.trains() ? workload.rows : rows_.per_block(), width_);
    if (workload.trains()) dz_.resize(rows_.per_block(), width_);
  }

  void set_threads() override { Eigen::setNbThreads(threads); }

  void forward() override {
    rows_.for_each_block([&](int64_t begin, int64_t count) {
      const Map<const Matrix> x(rows_.forward(begin, count), count, workload.input);
      if (workload.hidden == 0) {
        Map<VectorXf>(results.rewards.data() + begin, count).noalias() =
            x * Map<const VectorXf>(parameters_.w1, workload.input);
        return;
      }
      auto a = a_.middleRows(workload.trains() ? begin : 0, count);
      a.noalias() = x * Map<const Matrix>(parameters_.w1, width_, workload.input).transpose();
      a = (a.rowwise() + Map<const VectorXf>(parameters_.b1, width_).transpose()).cwiseMax(0.0f);
      for (int64_t m = 0; m < workload.members; ++m) {
        Map<VectorXf> rewards(results.rewards.data() + m * workload.rows + begin, count);
        rewards.noalias() = a.middleCols(m * workload.hidden, workload.hidden) * w2(m);
        rewards.array() += parameters_.b2[m];
      }
    });
  }

  // Pairs in blocks, so that the expressions' values stay in cache.
  void pair_loss() override {
    constexpr int64_t kBlock = 1024;
    const float scale = 1 / static_cast<float>(workload.pairs);
    for (int64_t m = 0; m < workload.members; ++m) {
      const Map<const ArrayXf> r(results.rewards.data() + m * workload.rows, workload.rows);
      Map<ArrayXf> dr(results.reward_gradient.data() + m * workload.rows, workload.rows);
      if (!workload.adjacent()) dr.setZero();
      double total = 0;
      for (int64_t begin = 0; begin < workload.pairs; begin += kBlock) {
        const int64_t count = std::min(kBlock, workload.pairs - begin);
        d_.resize(count);
        if (workload.adjacent()) {
          const auto pairs = r.segment(2 * begin, 2 * count).reshaped<Eigen::RowMajor>(count, 2);
          d_ = pairs.col(0) - pairs.col(1);
        } else {
          for (int64_t i = 0; i < count; ++i) d_[i] = r[problem.chosen[begin + i]] - r[problem.rejected[begin + i]];
        }
        total += ((-d_).cwiseMax(0.0f) + (-d_.abs()).exp().log1p()).sum();
        d_ = -scale * (-d_).logistic();
        for (int64_t i = 0; i < count; ++i) {
          if (workload.adjacent()) {
            dr[2 * (begin + i)] = d_[i];
            dr[2 * (begin + i) + 1] = -d_[i];
          } else {
            dr[problem.chosen[begin + i]] += d_[i];
            dr[problem.rejected[begin + i]] -= d_[i];
          }
        }
      }
      results.loss[m] = static_cast<float>(total * scale);
    }
  }

  void backward() override {
    rows_.for_each_block([&](int64_t begin, int64_t count) {
      const Map<const Matrix> x(rows_.backward(begin, count), count, workload.input);
      const auto dr = [&](int64_t m) {
        return Map<const VectorXf>(results.reward_gradient.data() + m * workload.rows + begin, count);
      };
      if (workload.hidden == 0) {
        Map<VectorXf> dw(gradients_.w1, workload.input);
        if (begin == 0) dw.setZero();
        dw.noalias() += x.transpose() * dr(0);
        return;
      }
      const auto a = a_.middleRows(begin, count);
      auto dz = dz_.topRows(count);
      Map<VectorXf> dw2(gradients_.w2, width_), db1(gradients_.b1, width_);
      Map<VectorXf> db2(gradients_.b2, workload.members);
      Map<Matrix> dw1(gradients_.w1, width_, workload.input);
      if (begin == 0) Map<VectorXf>(results.gradients.values.data(), workload.parameters()).setZero();
      for (int64_t m = 0; m < workload.members; ++m) {
        const auto a_m = a.middleCols(m * workload.hidden, workload.hidden);
        auto dz_m = dz.middleCols(m * workload.hidden, workload.hidden);
        dz_m.noalias() = dr(m) * w2(m).transpose();
        dz_m.array() *= (a_m.array() > 0).cast<float>();  // select() would branch on every unit
        dw2.segment(m * workload.hidden, workload.hidden).noalias() += a_m.transpose() * dr(m);
        db2[m] += dr(m).sum();
      }
      db1.noalias() += dz.transpose() * VectorXf::Ones(count);  // a product goes along rows, colwise().sum() does not
      if (begin == 0) {
        dw1.noalias() = dz.transpose() * x;
      } else {
        dw1.noalias() += dz.transpose() * x;
      }
      if (!results.input_gradient.empty()) {
        Map<Matrix>(results.input_gradient.data() + begin * workload.input, count, workload.input).noalias() =
            dz * Map<const Matrix>(parameters_.w1, width_, workload.input);
      }
    });
  }

  // One pass over memory: three expressions on a piece that stays in cache. OpenMP shares the pieces.
  void adamw() override {
    ++steps_;
    const float step = static_cast<float>(steps_);
    const float step_size = kLearningRate / (1 - std::pow(kBeta1, step));
    const float root = 1 / std::sqrt(1 - std::pow(kBeta2, step));
    constexpr int64_t kPiece = 2048;
    const int64_t size = workload.parameters();
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t begin = 0; begin < size; begin += kPiece) {
      const int64_t count = std::min(kPiece, size - begin);
      const auto piece = [&](Tensors& tensors) { return Map<ArrayXf>(tensors.values.data() + begin, count); };
      const Map<const ArrayXf> g(results.gradients.values.data() + begin, count);
      auto p = piece(results.parameters), m = piece(results.first_moments), v = piece(results.second_moments);
      m = kBeta1 * m + (1 - kBeta1) * g;
      v = kBeta2 * v + (1 - kBeta2) * g.square();
      p = p * (1 - kLearningRate * kWeightDecay) - step_size * m / (v.sqrt() * root + kEpsilon);
    }
  }

 private:
  Map<const VectorXf> w2(int64_t m) const { return {parameters_.w2 + m * workload.hidden, workload.hidden}; }

  int64_t width_;  // hidden units of all members
  rh_tensors parameters_, gradients_;
  Rows rows_;
  Matrix a_, dz_;  // activations, gradient of z
  ArrayXf d_;
  int64_t steps_ = 0;
};

}  // namespace

PeerEntry eigen_entry() {
  const auto number = [](int n) { return std::to_string(n); };
  return {"eigen",
          "Eigen " + number(EIGEN_WORLD_VERSION) + "." + number(EIGEN_MAJOR_VERSION) + "." +
              number(EIGEN_MINOR_VERSION) + ", " + Eigen::SimdInstructionSetsInUse(),
          [](const Workload&) { return true; },
          [](const Problem& problem, int threads) -> std::unique_ptr<Peer> {
            return std::make_unique<EigenPeer>(problem, threads);
          }};
}

}  // namespace rewardhead::bench
