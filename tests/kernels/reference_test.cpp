// SPDX-License-Identifier: Apache-2.0
//
// The reference itself, in double: against PyTorch's float64 results and against finite differences.
#include "kernels/reference/reference.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <vector>

#include "tests/kernels/lcg.h"
#include "tests/kernels/torch_figures.h"

namespace rewardhead::kernels::testing {
namespace {

using Vector = std::vector<double>;

// One head with pairs on it: rewards, loss and all gradients as functions of the inputs.
struct Model {
  int64_t rows, input, hidden;
  Vector x{}, w1{}, b1{}, w2{}, b2{};
  std::vector<int32_t> chosen{}, rejected{};
  std::vector<float> margin{}, weight{}, label{};
  double normalizer = 1;

  HeadTensors<const double> head() const { return {w1.data(), b1.data(), w2.data(), b2.data()}; }
  int64_t pairs() const { return std::ssize(chosen); }

  Vector rewards(std::vector<uint64_t>* mask = nullptr) const {
    Vector r(rows);
    if (mask) mask->resize(mask_blocks(rows) * hidden);
    reference::forward(x.data(), input, rows, input, hidden, head(), r.data(), mask ? mask->data() : nullptr);
    return r;
  }
  double loss(const Vector& r, Vector* gradient = nullptr) const {
    Vector sums(rows);
    if (gradient) gradient->resize(rows);
    return reference::pair_loss(r.data(), rows, pairs(), chosen.data(), rejected.data(), margin.data(), weight.data(),
                                label.data(), normalizer, gradient ? gradient->data() : nullptr, sums.data());
  }
  double loss() const { return loss(rewards()); }

  struct Gradients {
    Vector dr, dx, dw1, db1, dw2, db2;
  };
  Gradients gradients() const {
    Gradients g;
    std::vector<uint64_t> mask;
    loss(rewards(&mask), &g.dr);
    Vector sums(input);
    g.dx.resize(x.size());
    g.dw1.resize(w1.size());
    g.db1.resize(b1.size());
    g.dw2.resize(w2.size());
    g.db2.resize(b2.size());
    const HeadTensors<double> out = {g.dw1.data(), g.db1.data(), g.dw2.data(), g.db2.data()};
    const double* dr = g.dr.data();
    reference::parameter_gradients(x.data(), input, rows, input, hidden, head(), mask.data(), dr, out, sums.data());
    reference::input_gradient(rows, input, hidden, head(), mask.data(), dr, g.dx.data(), input, sums.data());
    return g;
  }
};

Vector draws(Lcg& lcg, int64_t count) {
  Vector values(count);
  for (double& value : values) value = lcg();
  return values;
}

Model torch_model() {
  Lcg lcg(1);
  Model m{.rows = 6, .input = 5, .hidden = 4};
  m.x = draws(lcg, 30);
  m.w1 = draws(lcg, 20);
  m.b1 = draws(lcg, 4);
  m.w2 = draws(lcg, 4);
  m.b2 = draws(lcg, 1);
  m.chosen = {0, 1, 2, 3, 4, 5, 0};
  m.rejected = {1, 2, 0, 0, 5, 1, 4};
  for (int i = 0; i < 7; ++i) m.margin.push_back(static_cast<float>(lcg()));
  for (int i = 0; i < 7; ++i) m.weight.push_back(static_cast<float>(lcg() + 1));
  for (int i = 0; i < 7; ++i) m.label.push_back(static_cast<float>(lcg() / 2 + 0.5));
  m.normalizer = 3.5;
  return m;
}

template <size_t count>
void expect_near(const char* name, const Vector& actual, const double (&expected)[count]) {
  ASSERT_EQ(actual.size(), count) << name;
  for (size_t i = 0; i < count; ++i) EXPECT_NEAR(actual[i], expected[i], 1e-14) << name << '[' << i << ']';
}

TEST(Reference, AgreesWithPyTorch) {
  const Model m = torch_model();
  expect_near("rewards", m.rewards(), torch_figures::kRewards);
  expect_near("loss", {m.loss()}, torch_figures::kLoss);
  const Model::Gradients g = m.gradients();
  expect_near("dr", g.dr, torch_figures::kRewardGradient);
  expect_near("dx", g.dx, torch_figures::kDx);
  expect_near("dw1", g.dw1, torch_figures::kDw1);
  expect_near("db1", g.db1, torch_figures::kDb1);
  expect_near("dw2", g.dw2, torch_figures::kDw2);
  expect_near("db2", g.db2, torch_figures::kDb2);
}

TEST(Reference, AdamwAgreesWithPyTorch) {
  Lcg lcg(2);
  float parameter[8], gradient[8], first[8], second[8];
  for (float& value : parameter) value = static_cast<float>(lcg());
  for (float& value : gradient) value = static_cast<float>(lcg());
  for (float& value : first) value = static_cast<float>(lcg() / 8);
  for (float& value : second) value = static_cast<float>((lcg() + 1) / 64);
  reference::adamw({.count = 8,
                    .parameter = parameter,
                    .gradient = gradient,
                    .first_moment = first,
                    .second_moment = second,
                    .learning_rate = 0.25,
                    .beta1 = 0.9,
                    .beta2 = 0.99,
                    .epsilon = 1e-3,
                    .weight_decay = 0.125,
                    .gradient_scale = 1,
                    .step = 3});
  for (int i = 0; i < 8; ++i) {  // rounded once, to float
    EXPECT_FLOAT_EQ(parameter[i], static_cast<float>(torch_figures::kAdamwParameter[i]));
    EXPECT_FLOAT_EQ(first[i], static_cast<float>(torch_figures::kAdamwFirst[i]));
    EXPECT_FLOAT_EQ(second[i], static_cast<float>(torch_figures::kAdamwSecond[i]));
  }
}

TEST(Reference, ScaledGradientActsLikeASmallerOne) {
  float parameter[2][1] = {{0.5f}, {0.5f}}, first[2][1] = {{0.25f}, {0.25f}}, second[2][1] = {{0.125f}, {0.125f}};
  const float gradient[2][1] = {{2.0f}, {0.5f}};
  for (int i = 0; i < 2; ++i) {
    reference::adamw({1, parameter[i], gradient[i], first[i], second[i], 0.1, 0.9, 0.99, 1e-8, 0.1, i ? 1.0 : 0.25, 7});
  }
  EXPECT_EQ(parameter[0][0], parameter[1][0]);
  EXPECT_EQ(first[0][0], first[1][0]);
  EXPECT_EQ(second[0][0], second[1][0]);
}

// Central differences with h = 1e-5 on functions of size 1: truncation h^2, rounding 1e-16 / h, so 1e-9 is ample.
void expect_derivative(const char* name, Vector& variable, const Vector& gradient,
                       const std::function<double()>& loss) {
  ASSERT_EQ(variable.size(), gradient.size()) << name;
  constexpr double h = 1e-5;
  for (size_t i = 0; i < variable.size(); ++i) {
    const double value = variable[i];
    variable[i] = value + h;
    const double above = loss();
    variable[i] = value - h;
    const double below = loss();
    variable[i] = value;
    EXPECT_NEAR((above - below) / (2 * h), gradient[i], 1e-9) << name << '[' << i << ']';
  }
}

// A random model none of whose z is within 1e-3 of 0, where relu has no derivative.
Model random_model(std::mt19937_64& random, int64_t rows, int64_t input, int64_t hidden, int64_t pairs) {
  const auto uniform = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  for (;;) {
    Model m{.rows = rows, .input = input, .hidden = hidden};
    for (const auto& [tensor, count] : {std::pair{&m.x, rows * input},
                                        {&m.w1, std::max<int64_t>(hidden, 1) * input},
                                        {&m.b1, hidden},
                                        {&m.w2, hidden},
                                        {&m.b2, int64_t{1}}}) {
      for (int64_t i = 0; i < count; ++i) tensor->push_back(uniform(-1, 1));
    }
    for (int64_t p = 0; p < pairs; ++p) {
      m.chosen.push_back(static_cast<int32_t>(random() % rows));
      m.rejected.push_back(static_cast<int32_t>((m.chosen.back() + 1 + random() % (rows - 1)) % rows));
      m.margin.push_back(static_cast<float>(uniform(-1, 1)));
      m.weight.push_back(static_cast<float>(uniform(0, 2)));
      m.label.push_back(static_cast<float>(uniform(0, 1)));
    }
    m.normalizer = static_cast<double>(pairs);
    bool clear = true;
    for (int64_t i = 0; i < rows * hidden; ++i) {
      double z = m.b1[i % hidden];
      for (int64_t k = 0; k < input; ++k) z += m.x[i / hidden * input + k] * m.w1[i % hidden * input + k];
      clear = clear && std::abs(z) > 1e-3;
    }
    if (clear) return m;
  }
}

TEST(Reference, GradientsAreFiniteDifferences) {
  std::mt19937_64 random(61);
  for (const auto& [rows, input, hidden, pairs] :
       {std::array<int64_t, 4>{2, 1, 1, 1}, {9, 4, 7, 20}, {70, 3, 5, 100}, {8, 5, 0, 12}, {67, 2, 0, 40}}) {
    Model m = random_model(random, rows, input, hidden, pairs);
    const Model::Gradients g = m.gradients();
    const auto loss = [&] { return m.loss(); };
    expect_derivative("x", m.x, g.dx, loss);
    expect_derivative("w1", m.w1, g.dw1, loss);
    expect_derivative("b1", m.b1, g.db1, loss);
    expect_derivative("w2", m.w2, g.dw2, loss);
    if (hidden) expect_derivative("b2", m.b2, g.db2, loss);
    Vector rewards = m.rewards();
    expect_derivative("rewards", rewards, g.dr, [&] { return m.loss(rewards); });
  }
}

// Without lists: margins 0, weights 1, labels 1, pairs (2i, 2i + 1).
TEST(Reference, MissingListsHaveTheirDefaults) {
  std::mt19937_64 random(62);
  Model m = random_model(random, 12, 3, 4, 6);
  for (int32_t p = 0; p < 6; ++p) {
    m.chosen[p] = 2 * p;
    m.rejected[p] = 2 * p + 1;
    m.margin[p] = 0;
    m.weight[p] = m.label[p] = 1;
  }
  Vector with, without(12), sums(12);
  const Vector rewards = m.rewards();
  const double loss = m.loss(rewards, &with);
  const double defaults = reference::pair_loss(rewards.data(), 12, 6, nullptr, nullptr, nullptr, nullptr, nullptr,
                                               m.normalizer, without.data(), sums.data());
  EXPECT_EQ(loss, defaults);
  EXPECT_EQ(with, without);
}

// At z = 0 the unit is off: its derivative from the right is left out, as in PyTorch.
TEST(Reference, ZeroIsInactive) {
  const double x[] = {1, 2}, w1[] = {2, -1}, b1[] = {0}, w2[] = {3}, b2[] = {0.5};
  double reward;
  uint64_t mask = ~uint64_t{0};
  reference::forward(x, 2, 1, 2, 1, HeadTensors<const double>{w1, b1, w2, b2}, &reward, &mask);
  EXPECT_EQ(mask, 0u);
  EXPECT_EQ(reward, 0.5);
}

}  // namespace
}  // namespace rewardhead::kernels::testing
