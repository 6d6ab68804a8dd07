// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "host/dataset/embeddings.h"
#include "host/dataset/safetensors.h"
#include "rewardhead/rewardhead.hpp"

namespace rewardhead::training {

// The model file, safetensors with the names and shapes that Hugging Face and torch.nn use:
//   linear   score.weight [1, input]
//   MLP      score.0.weight [hidden, input]  score.0.bias [hidden]  score.2.weight [1, hidden]  score.2.bias [1]
// It depends on the weights alone: equal heads give equal bytes.
void save_model(const std::filesystem::path& file, const Head& head);

// Throws InputError naming the file and the tensor: missing, unknown or wrongly shaped ones, and values that are not
// finite.
Head load_model(const std::filesystem::path& file);

// Throws InputError unless the model's input dimension is the number of embedding columns.
void check_input(const std::filesystem::path& model_file, const Head& head, const dataset::Embeddings& embeddings);

// The tensors of a head under `prefix` + "0.weight" and so on; checkpoints hold several heads.
void add_tensors(const std::string& prefix, const Head& head, dataset::TensorFile& contents);
// Takes the head under `prefix` out of `contents`. Throws InputError as load_model does; `file` is for its message.
Head take_tensors(const std::string& prefix, const std::filesystem::path& file, dataset::TensorFile& contents);

}  // namespace rewardhead::training
