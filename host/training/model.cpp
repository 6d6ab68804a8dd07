// SPDX-License-Identifier: Apache-2.0
#include "host/training/model.h"

#include <algorithm>
#include <cmath>

#include "host/dataset/error.h"

namespace rewardhead::training {
namespace {

using dataset::Tensor;
using Shape = std::vector<int64_t>;

std::string to_string(const Shape& shape) {
  std::string text;
  for (const int64_t size : shape) text += (text.empty() ? "[" : ", ") + std::to_string(size);
  return shape.empty() ? "[]" : text + "]";
}

Tensor take(const std::string& name, const std::filesystem::path& file, dataset::TensorFile& contents) {
  auto node = contents.tensors.extract(name);
  if (node.empty()) throw InputError(file.string() + ": has no tensor '" + name + "'");
  const auto& values = node.mapped().values;
  const auto bad = std::find_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
  if (bad != values.end()) {
    throw InputError(file.string() + ": tensor '" + name + "' has the value " + std::to_string(*bad) + " at index " +
                     std::to_string(bad - values.begin()) + ", where a finite number is expected");
  }
  return std::move(node.mapped());
}

void copy(const std::string& name, const std::filesystem::path& file, const Tensor& tensor, const Shape& expected,
          std::span<float> destination) {
  if (tensor.shape != expected) {
    throw InputError(file.string() + ": tensor '" + name + "' has the shape " + to_string(tensor.shape) + ", but " +
                     to_string(expected) + " is expected");
  }
  std::copy(tensor.values.begin(), tensor.values.end(), destination.begin());
}

Shape matrix_shape(const std::string& name, const std::filesystem::path& file, const Tensor& tensor) {
  if (tensor.shape.size() == 2 && tensor.shape[0] >= 1 && tensor.shape[1] >= 1) return tensor.shape;
  throw InputError(file.string() + ": tensor '" + name + "' has the shape " + to_string(tensor.shape) +
                   ", but two dimensions of at least 1 are expected");
}

Tensor tensor(Shape shape, std::span<const float> values) {
  return {std::move(shape), std::vector<float>(values.begin(), values.end())};
}

}  // namespace

void add_tensors(const std::string& prefix, const Head& head, dataset::TensorFile& contents) {
  if (head.linear()) {
    contents.tensors[prefix + "weight"] = tensor({1, head.input()}, head.w1());
    return;
  }
  contents.tensors[prefix + "0.weight"] = tensor({head.hidden(), head.input()}, head.w1());
  contents.tensors[prefix + "0.bias"] = tensor({head.hidden()}, head.b1());
  contents.tensors[prefix + "2.weight"] = tensor({1, head.hidden()}, head.w2());
  contents.tensors[prefix + "2.bias"] = tensor({1}, head.b2());
}

Head take_tensors(const std::string& prefix, const std::filesystem::path& file, dataset::TensorFile& contents) {
  const std::string linear = prefix + "weight", first = prefix + "0.weight";
  if (contents.tensors.contains(linear)) {
    const Tensor w = take(linear, file, contents);
    const Shape shape = matrix_shape(linear, file, w);
    Head head(shape[1], 0);
    copy(linear, file, w, {1, shape[1]}, head.w1());
    return head;
  }
  if (!contents.tensors.contains(first)) {
    throw InputError(file.string() + ": has neither a tensor '" + linear + "' (a linear head) nor '" + first +
                     "' (an MLP head)");
  }
  const Tensor w1 = take(first, file, contents);
  const Shape shape = matrix_shape(first, file, w1);
  Head head(shape[1], shape[0]);
  copy(first, file, w1, shape, head.w1());
  const auto rest = [&](const std::string& name, const Shape& expected, std::span<float> destination) {
    copy(prefix + name, file, take(prefix + name, file, contents), expected, destination);
  };
  rest("0.bias", {head.hidden()}, head.b1());
  rest("2.weight", {1, head.hidden()}, head.w2());
  rest("2.bias", {1}, head.b2());
  return head;
}

void save_model(const std::filesystem::path& file, const Head& head) {
  dataset::TensorFile contents{.tensors = {}, .metadata = {{"format", "pt"}}};
  add_tensors("score.", head, contents);
  dataset::write_safetensors(file, contents);
}

Head load_model(const std::filesystem::path& file) {
  dataset::TensorFile contents = dataset::read_safetensors(file);
  Head head = take_tensors("score.", file, contents);
  if (!contents.tensors.empty()) {
    throw InputError(file.string() + ": has the tensor '" + contents.tensors.begin()->first +
                     "', which is not one of a reward head");
  }
  return head;
}

void check_input(const std::filesystem::path& model_file, const Head& head, const dataset::Embeddings& embeddings) {
  if (head.input() == embeddings.columns()) return;
  throw InputError(model_file.string() + " has input_dim " + std::to_string(head.input()) + ", but " +
                   embeddings.file().string() + " has " + std::to_string(embeddings.columns()) + " columns");
}

}  // namespace rewardhead::training
