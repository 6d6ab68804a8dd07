// SPDX-License-Identifier: Apache-2.0
//
// A small head with everything that the executes of the C interface take, all of it valid.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "rewardhead/rewardhead.h"

namespace rewardhead::runtime::testing {

struct Deleter {
  void operator()(rh_context* context) const { rh_context_destroy(context); }
  void operator()(rh_plan* plan) const { rh_plan_destroy(plan); }
  void operator()(void* memory) const { std::free(memory); }
};
using Context = std::unique_ptr<rh_context, Deleter>;
using Plan = std::unique_ptr<rh_plan, Deleter>;

inline Context make_context(int threads = 1, const char* isa = nullptr) {
  const rh_context_options options = {sizeof options, RH_DEVICE_AUTO, isa, threads, nullptr, nullptr};
  rh_context* context = nullptr;
  EXPECT_EQ(rh_context_create(&options, &context), RH_OK) << rh_last_error_message();
  return Context(context);
}

inline rh_plan_options plan_options(int64_t rows, int64_t input, int64_t hidden, int64_t pairs,
                                    uint32_t operations = RH_TRAIN | RH_INPUT_GRADIENT) {
  return {sizeof(rh_plan_options), operations, rows, input, hidden, RH_F32, pairs, RH_BRADLEY_TERRY, 0,
          RH_PLAN_MODEL, nullptr};
}

inline Plan make_plan(const rh_context* context, const rh_plan_options& options) {
  rh_plan* plan = nullptr;
  EXPECT_EQ(rh_plan_create(context, &options, &plan), RH_OK) << rh_last_error_message();
  return Plan(plan);
}

class WorkspaceMemory {
 public:
  explicit WorkspaceMemory(const rh_plan* plan)
      : bytes_(rh_plan_workspace_bytes(plan)), data_(std::aligned_alloc(RH_ALIGNMENT, bytes_)) {
    std::memset(data_.get(), 0xff, bytes_);  // NaN everywhere
  }
  rh_workspace get() const { return {data_.get(), bytes_}; }

 private:
  size_t bytes_;
  std::unique_ptr<void, Deleter> data_;
};

struct Tensors {
  Tensors(int64_t input, int64_t hidden, int64_t members = 1)
      : w1(members * std::max<int64_t>(hidden, 1) * input),
        b1(members * hidden),
        w2(members * hidden),
        b2(hidden ? members : 0),
        mlp(hidden != 0) {}
  rh_tensors view() {
    return {w1.data(), mlp ? b1.data() : nullptr, mlp ? w2.data() : nullptr, mlp ? b2.data() : nullptr};
  }
  std::vector<float> w1, b1, w2, b2;
  bool mlp;
};

enum Call { forward = 1, pair_loss = 2, backward = 4, adamw = 8, train = 16, loss_gradients = 32, every_call = 63 };

// The arguments of all six calls. Pointers may be set to null, and the values they point to changed.
struct Step {
  Step(int64_t rows_, int64_t input_, int64_t hidden_, int64_t pairs_, uint64_t seed = 1, int64_t members = 1)
      : rows(rows_),
        input(input_),
        x_data(rows_ * input_),
        chosen(pairs_),
        rejected(pairs_),
        margin(pairs_),
        weight(members * pairs_),
        label(pairs_),
        parameter_data(input_, hidden_, members),
        gradient_data(input_, hidden_, members),
        first_data(input_, hidden_, members),
        second_data(input_, hidden_, members),
        reward_data(members * rows_),
        reward_gradient_data(members * rows_),
        input_gradient_data(rows_ * input_),
        loss_data(members),
        gradient_norm_data(members) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    for (std::vector<float>* list :
         {&x_data, &margin, &parameter_data.w1, &parameter_data.b1, &parameter_data.w2, &parameter_data.b2}) {
      for (float& value : *list) value = normal(random);
    }
    for (int64_t p = 0; p < pairs_; ++p) {
      chosen[p] = static_cast<int32_t>(random() % rows);
      rejected[p] = static_cast<int32_t>((chosen[p] + 1 + random() % (rows - 1)) % rows);
      label[p] = static_cast<float>(random() % 5) / 4;
    }
    for (float& value : weight) value = std::abs(normal(random));
    x = {x_data.data(), rows, input};
    pairs = {pairs_, chosen.data(), rejected.data(), margin.data(), weight.data(), label.data()};
    options = {sizeof options, 1e-2, 0.9, 0.999, 1e-8, 0.1, 1.0, 1};
    parameters = parameter_data.view();
    gradients = gradient_data.view();
    first_moments = first_data.view();
    second_moments = second_data.view();
    rewards = reward_data.data();
    reward_gradient = reward_gradient_data.data();
    input_gradient = input_gradient_data.data();
    input_gradient_stride = input;
    loss = loss_data.data();
    gradient_norm = gradient_norm_data.data();
  }
  Step(const Step&) = delete;

  rh_status call(Call which, const rh_plan* plan, rh_workspace workspace) {
    switch (which) {
      case forward:
        return rh_forward(plan, x_pointer, parameters_pointer, rewards, workspace);
      case pair_loss:
        return rh_pair_loss(plan, rewards, rows, pairs_pointer, normalizer, loss, reward_gradient, workspace);
      case backward:
        return rh_backward(plan, x_pointer, parameters_pointer, reward_gradient, gradients_pointer, input_gradient,
                           input_gradient_stride, workspace);
      case adamw:
        return rh_adamw(plan, options_pointer, parameters_pointer, gradients_pointer, first_moments_pointer,
                        second_moments_pointer, gradient_norm, workspace);
      case loss_gradients: {
        const rh_loss_arguments arguments = {
            loss_struct_size, x,    pairs,          normalizer,           parameters, gradients, rewards,
            reward_gradient,  loss, input_gradient, input_gradient_stride};
        return rh_loss_gradients(plan, train_pointer ? &arguments : nullptr, workspace);
      }
      default: {
        const rh_train_arguments arguments = {train_struct_size, x,         pairs,         normalizer,     options,
                                              parameters,        gradients, first_moments, second_moments, rewards,
                                              reward_gradient,   loss,      gradient_norm};
        return rh_train_step(plan, train_pointer ? &arguments : nullptr, workspace);
      }
    }
  }

  // Everything that a call may write, in one list.
  std::vector<float> outputs() const {
    std::vector<float> all;
    for (const Tensors* t : {&parameter_data, &gradient_data, &first_data, &second_data}) {
      for (const auto* list : {&t->w1, &t->b1, &t->w2, &t->b2}) all.insert(all.end(), list->begin(), list->end());
    }
    for (const auto* list :
         {&reward_data, &reward_gradient_data, &input_gradient_data, &loss_data, &gradient_norm_data}) {
      all.insert(all.end(), list->begin(), list->end());
    }
    return all;
  }

  int64_t rows, input;
  std::vector<float> x_data;
  std::vector<int32_t> chosen, rejected;
  std::vector<float> margin, weight, label;
  Tensors parameter_data, gradient_data, first_data, second_data;
  std::vector<float> reward_data, reward_gradient_data, input_gradient_data;
  std::vector<float> loss_data, gradient_norm_data;

  rh_matrix x;
  rh_pairs pairs;
  rh_adamw_options options;
  rh_tensors parameters, gradients, first_moments, second_moments;
  double normalizer = 0;
  float *rewards, *reward_gradient, *input_gradient, *loss, *gradient_norm;
  int64_t input_gradient_stride;
  size_t loss_struct_size = sizeof(rh_loss_arguments), train_struct_size = sizeof(rh_train_arguments);

  const rh_matrix* x_pointer = &x;
  const rh_pairs* pairs_pointer = &pairs;
  const rh_adamw_options* options_pointer = &options;
  const rh_tensors *parameters_pointer = &parameters, *gradients_pointer = &gradients,
                   *first_moments_pointer = &first_moments, *second_moments_pointer = &second_moments;
  bool train_pointer = true;
};

// Any integer, as a C caller may store it.
template <class Enum>
void set_enum(Enum& to, int value) {
  std::memcpy(&to, &value, sizeof to);
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace rewardhead::runtime::testing
