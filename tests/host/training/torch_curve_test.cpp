// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "rewardhead/rewardhead.hpp"

namespace rewardhead::training {
namespace {

template <class Value>
std::vector<Value> list(const nlohmann::json& object, const char* key) {
  return object.contains(key) ? object.at(key).get<std::vector<Value>>() : std::vector<Value>{};
}

// The losses of PyTorch's first 20 steps from the same weights and batches (tests/tools/make_torch_curve.py).
TEST(TorchCurve, LossesFollowPyTorch) {
  const char* other = std::getenv("TORCH_CURVE");
  const auto data = nlohmann::json::parse(std::ifstream(other ? other : TEST_DATA "/torch_curve.json"));
  const auto x = list<float>(data, "x");
  const int64_t rows = data.at("rows"), input = data.at("input");
  const Context context;
  ASSERT_EQ(data.at("cases").size(), 5u);
  for (const auto& test : data.at("cases")) {
    SCOPED_TRACE(test.at("name").get<std::string>());
    Head head(input, test.at("hidden"));
    const auto initial = list<float>(test, "initial");
    ASSERT_EQ(initial.size(), head.values().size());
    std::copy(initial.begin(), initial.end(), head.values().begin());
    const Plan plan(context, {.rows = rows, .input_dim = input, .hidden_dim = head.hidden(), .max_pairs = 64});
    const Workspace workspace(plan);
    TrainingState state(head, rows);
    const AdamwOptions optimizer{.learning_rate = test.at("learning_rate"),
                                 .weight_decay = test.at("weight_decay"),
                                 .clip_norm = test.at("clip_norm")};
    const auto losses = list<double>(test, "losses"), norms = list<double>(test, "gradient_norms");
    ASSERT_EQ(losses.size(), 20u);
    for (size_t step = 0; step < losses.size(); ++step) {
      const auto& batch = test.at("batches").at(step % test.at("batches").size());
      const auto chosen = list<int32_t>(batch, "chosen"), rejected = list<int32_t>(batch, "rejected");
      const auto margin = list<float>(batch, "margin"), weight = list<float>(batch, "weight"),
                 label = list<float>(batch, "label");
      const float loss = plan.train_step(matrix(x, rows), {chosen, rejected, margin, weight, label}, optimizer, head,
                                         state, workspace);
      EXPECT_NEAR(loss, losses[step], 1e-5 * losses[step]) << "step " << step + 1;
      EXPECT_NEAR(state.gradient_norm, norms[step], 1e-4 * norms[step]) << "step " << step + 1;
    }
  }
}

}  // namespace
}  // namespace rewardhead::training
