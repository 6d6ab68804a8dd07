// SPDX-License-Identifier: Apache-2.0
//
// oneDNN's inner products, weights and their gradient in the layout that oneDNN chooses, as frameworks on top of it
// keep them: W1 is brought there once, not in the timed call. OpenMP shares the loops between, as it does in oneDNN.
// Weight gradients of blocks of rows cannot be added up in place, so training takes all rows at once.
#include <omp.h>

#include <map>
#include <oneapi/dnnl/dnnl.hpp>

#include "bench/peers/loops.h"

namespace rewardhead::bench {
namespace {

using dnnl::memory;
using Forward = dnnl::inner_product_forward;
using BackwardWeights = dnnl::inner_product_backward_weights;
using BackwardData = dnnl::inner_product_backward_data;

memory::desc plain(int64_t rows, int64_t columns) {
  return {{rows, columns}, memory::data_type::f32, memory::format_tag::ab};
}
memory::desc free_layout(int64_t rows, int64_t columns) {
  return {{rows, columns}, memory::data_type::f32, memory::format_tag::any};
}

class OneDnn final : public Peer {
 public:
  OneDnn(const Problem& the_problem, int the_threads)
      : Peer(the_problem, the_threads),
        width_(workload.members * std::max<int64_t>(1, workload.hidden)),
        parameters_(problem.parameters.pointers()),
        gradients_(results.gradients.pointers()),
        rows_(problem, workload.trains() ? workload.rows : rows_per_block(workload), threads) {
    set_threads();  // primitives are made for the number of threads that runs them
    rows_.for_each_block([&](int64_t, int64_t count) {
      if (!forward_.contains(count)) forward_.emplace(count, make_forward(count));
    });
    if (workload.hidden > 0) activations_.resize(static_cast<size_t>(rows_.per_block() * width_));
    if (workload.trains()) make_backward();
  }

  void set_threads() override { omp_set_num_threads(threads); }

  void forward() override {
    rows_.for_each_block([&](int64_t begin, int64_t count) {
      Product& product = forward_.at(count);
      // A linear head is the inner product with one output and writes the rewards.
      float* z = workload.hidden == 0 ? results.rewards.data() + begin : activations_.data();
      product.arguments[DNNL_ARG_SRC].set_data_handle(const_cast<float*>(rows_.forward(begin, count)));
      product.arguments[DNNL_ARG_DST].set_data_handle(z);
      product.primitive.execute(stream_, product.arguments);
      stream_.wait();
      if (workload.hidden == 0) return;
      activate_and_score(workload, parameters_, nullptr, z, begin, count, results.rewards.data(), threads);
    });
  }

  void pair_loss() override { composed_pair_loss(problem, results); }

  void backward() override {
    weights_.arguments[DNNL_ARG_SRC].set_data_handle(const_cast<float*>(rows_.backward(0, workload.rows)));
    if (workload.hidden > 0) {
      hidden_gradients(workload, parameters_, activations_.data(), results.reward_gradient.data(), 0, workload.rows,
                       gradients_of_z_.data(), gradients_, threads);
    }
    weights_.primitive.execute(stream_, weights_.arguments);
    if (!results.input_gradient.empty()) data_.primitive.execute(stream_, data_.arguments);
    stream_.wait();
  }

  void collect() override {
    if (!workload.trains()) return;
    memory& from = weights_.arguments.at(DNNL_ARG_DIFF_WEIGHTS);
    memory to(plain(width_, workload.input), engine_, gradients_.w1);
    dnnl::reorder(from, to).execute(stream_, from, to);
    stream_.wait();
  }

  void adamw() override {}

 private:
  struct Product {
    dnnl::primitive primitive;
    std::unordered_map<int, memory> arguments;
  };

  memory in_layout(const memory::desc& layout) {
    memory from(plain(width_, workload.input), engine_, parameters_.w1), to(layout, engine_);
    dnnl::reorder(from, to).execute(stream_, from, to);
    stream_.wait();
    return to;
  }

  Forward::primitive_desc forward_description(int64_t count) {
    const auto kind = workload.trains() ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
    const memory::desc x = plain(count, workload.input), w1 = free_layout(width_, workload.input);
    if (workload.hidden == 0) return {{kind, x, w1, plain(count, width_)}, engine_};
    const memory::desc b1({width_}, memory::data_type::f32, memory::format_tag::a);
    dnnl::post_ops relu;
    relu.append_eltwise(1, dnnl::algorithm::eltwise_relu, 0, 0);
    dnnl::primitive_attr attributes;
    attributes.set_post_ops(relu);
    return {{kind, x, w1, b1, plain(count, width_)}, attributes, engine_};
  }

  Product make_forward(int64_t count) {
    const auto description = forward_description(count);
    Product product{Forward(description),
                    {{DNNL_ARG_SRC, memory(description.src_desc(), engine_, nullptr)},
                     {DNNL_ARG_WEIGHTS, in_layout(description.weights_desc())},
                     {DNNL_ARG_DST, memory(description.dst_desc(), engine_, nullptr)}}};
    if (workload.hidden > 0) {
      product.arguments.emplace(DNNL_ARG_BIAS, memory(description.bias_desc(), engine_, parameters_.b1));
    }
    return product;
  }

  void make_backward() {
    const int64_t rows = workload.rows;
    if (workload.hidden > 0) gradients_of_z_.resize(static_cast<size_t>(rows * width_));
    float* dz = workload.hidden == 0 ? results.reward_gradient.data() : gradients_of_z_.data();
    const auto forward_hint = forward_description(rows);
    const memory::desc x = plain(rows, workload.input), z = plain(rows, width_);
    const BackwardWeights::primitive_desc weights({x, free_layout(width_, workload.input), z}, engine_, forward_hint);
    weights_ = {BackwardWeights(weights),
                {{DNNL_ARG_SRC, memory(x, engine_, nullptr)},
                 {DNNL_ARG_DIFF_DST, memory(z, engine_, dz)},
                 {DNNL_ARG_DIFF_WEIGHTS, memory(weights.diff_weights_desc(), engine_)}}};
    if (results.input_gradient.empty()) return;
    const BackwardData::primitive_desc data({x, free_layout(width_, workload.input), z}, engine_, forward_hint);
    data_ = {BackwardData(data),
             {{DNNL_ARG_DIFF_DST, memory(z, engine_, dz)},
              {DNNL_ARG_WEIGHTS, in_layout(data.weights_desc())},
              {DNNL_ARG_DIFF_SRC, memory(x, engine_, results.input_gradient.data())}}};
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  int64_t width_;  // hidden units of all members; 1 for the linear head
  rh_tensors parameters_, gradients_;
  Rows rows_;
  std::map<int64_t, Product> forward_;  // by the number of rows: of a block, and of the last one
  Product weights_, data_;
  Array<float> activations_, gradients_of_z_;
};

}  // namespace

PeerEntry onednn_entry() {
  const dnnl_version_t* v = dnnl_version();
  return {"onednn",
          "oneDNN " + std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch) +
              ", OpenMP",
          [](const Workload& workload) { return workload.scores(); },
          [](const Problem& problem, int threads) -> std::unique_ptr<Peer> {
            return std::make_unique<OneDnn>(problem, threads);
          }};
}

}  // namespace rewardhead::bench
