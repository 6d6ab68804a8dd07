// SPDX-License-Identifier: Apache-2.0
#include "host/training/model.h"

#include <algorithm>
#include <limits>

#include "tests/host/dataset/files.h"
#include "tests/host/sample.h"

namespace rewardhead::training {
namespace {

class ModelTest : public dataset::FileTest {
 protected:
  static Head numbered(int64_t input, int64_t hidden) {
    Head head(input, hidden);
    float next = 0.5f;
    for (float& value : head.values()) value = next++;
    return head;
  }
  std::string load_error(const dataset::TensorFile& contents) const {
    dataset::write_safetensors(path("model.safetensors"), contents);
    return error_of([&] { load_model(path("model.safetensors")); });
  }
  dataset::TensorFile saved(const Head& head) const {
    save_model(path("saved.safetensors"), head);
    return dataset::read_safetensors(path("saved.safetensors"));
  }
};

TEST_F(ModelTest, MlpHasTheNamesAndShapesOfTorch) {
  const auto contents = saved(numbered(3, 2));
  ASSERT_EQ(contents.tensors.size(), 4u);
  EXPECT_EQ(contents.tensors.at("score.0.weight").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(contents.tensors.at("score.0.weight").values, (std::vector<float>{0.5, 1.5, 2.5, 3.5, 4.5, 5.5}));
  EXPECT_EQ(contents.tensors.at("score.0.bias").shape, (std::vector<int64_t>{2}));
  EXPECT_EQ(contents.tensors.at("score.0.bias").values, (std::vector<float>{6.5, 7.5}));
  EXPECT_EQ(contents.tensors.at("score.2.weight").shape, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(contents.tensors.at("score.2.weight").values, (std::vector<float>{8.5, 9.5}));
  EXPECT_EQ(contents.tensors.at("score.2.bias").shape, (std::vector<int64_t>{1}));
  EXPECT_EQ(contents.tensors.at("score.2.bias").values, (std::vector<float>{10.5}));
  EXPECT_EQ(contents.metadata, (std::map<std::string, std::string>{{"format", "pt"}}));
}

TEST_F(ModelTest, LinearHeadIsOneTensor) {
  const auto contents = saved(numbered(3, 0));
  ASSERT_EQ(contents.tensors.size(), 1u);
  EXPECT_EQ(contents.tensors.at("score.weight").shape, (std::vector<int64_t>{1, 3}));
}

TEST_F(ModelTest, LoadsWhatWasSaved) {
  for (const int64_t hidden : {0, 1, 2}) {
    const Head head = numbered(3, hidden);
    saved(head);
    const Head loaded = load_model(path("saved.safetensors"));
    EXPECT_EQ(loaded.input(), 3);
    EXPECT_EQ(loaded.hidden(), hidden);
    EXPECT_TRUE(std::ranges::equal(loaded.values(), head.values()));
  }
}

TEST_F(ModelTest, RefusesOtherFiles) {
  const auto good = saved(numbered(3, 2));
  auto bad = good;
  bad.tensors.erase("score.2.bias");
  EXPECT_EQ(load_error(bad), "model.safetensors: has no tensor 'score.2.bias'");
  bad = good;
  bad.tensors.erase("score.0.weight");
  EXPECT_EQ(
      load_error(bad),
      "model.safetensors: has neither a tensor 'score.weight' (a linear head) nor 'score.0.weight' (an MLP head)");
  bad = good;
  bad.tensors["lm_head.weight"] = {{1}, {1}};
  EXPECT_EQ(load_error(bad), "model.safetensors: has the tensor 'lm_head.weight', which is not one of a reward head");
  bad = good;
  bad.tensors["score.2.weight"] = {{1, 3}, {1, 2, 3}};
  EXPECT_EQ(load_error(bad), "model.safetensors: tensor 'score.2.weight' has the shape [1, 3], but [1, 2] is expected");
  bad = good;
  bad.tensors["score.0.weight"].shape = {6};
  EXPECT_EQ(load_error(bad),
            "model.safetensors: tensor 'score.0.weight' has the shape [6], but two dimensions of at least 1 are "
            "expected");
  bad = good;
  bad.tensors["score.0.bias"].values[1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(load_error(bad),
            "model.safetensors: tensor 'score.0.bias' has the value nan at index 1, where a finite number is expected");
  bad = saved(numbered(3, 0));
  bad.tensors["score.weight"] = {{2, 3}, {1, 2, 3, 4, 5, 6}};  // two labels: a classifier, not a reward head
  EXPECT_EQ(load_error(bad), "model.safetensors: tensor 'score.weight' has the shape [2, 3], but [1, 3] is expected");
}

TEST_F(ModelTest, NamesBothSizesWhereTheEmbeddingsDoNotFit) {
  const Sample sample = write_sample(folder_);
  const auto embeddings = dataset::Embeddings::open(sample.embeddings_file);
  EXPECT_EQ(error_of([&] { check_input(path("m.safetensors"), Head(12, 4), embeddings); }), "no error");
  EXPECT_EQ(error_of([&] { check_input(path("m.safetensors"), Head(13, 4), embeddings); }),
            "m.safetensors has input_dim 13, but embeddings.npy has 12 columns");
}

}  // namespace
}  // namespace rewardhead::training
