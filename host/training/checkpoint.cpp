// SPDX-License-Identifier: Apache-2.0
#include "host/training/checkpoint.h"

#include <charconv>

#include "host/dataset/error.h"
#include "host/dataset/safetensors.h"
#include "host/training/model.h"
#include "host/training/options.h"

namespace rewardhead::training {
namespace {

const std::string kOptionPrefix = "option.";

template <class Number>
Number read_number(const std::filesystem::path& file, const dataset::TensorFile& contents, const std::string& key) {
  const auto found = contents.metadata.find(key);
  if (found == contents.metadata.end()) {
    throw InputError(file.string() + ": is not a checkpoint, its metadata have no '" + key + "'");
  }
  const std::string& text = found->second;
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number < 0) {
    throw InputError(file.string() + ": its metadata have '" + key + "' = '" + text +
                     "', where a number of at least 0 is expected");
  }
  return number;
}

}  // namespace

void save_checkpoint(const std::filesystem::path& file, const Checkpoint& checkpoint) {
  dataset::TensorFile contents;
  add_tensors("parameters.", checkpoint.parameters, contents);
  add_tensors("first_moments.", checkpoint.first_moments, contents);
  add_tensors("second_moments.", checkpoint.second_moments, contents);
  if (checkpoint.best) add_tensors("best.", *checkpoint.best, contents);
  contents.metadata = {{"best_nll", shortest(checkpoint.best_nll)},
                       {"epochs_since_best", std::to_string(checkpoint.epochs_since_best)},
                       {"epoch", std::to_string(checkpoint.epoch)},
                       {"step", std::to_string(checkpoint.step)}};
  for (const auto& [name, value] : checkpoint.options) contents.metadata[kOptionPrefix + name] = value;
  dataset::write_safetensors(file, contents);
}

Checkpoint load_checkpoint(const std::filesystem::path& file) {
  dataset::TensorFile contents = dataset::read_safetensors(file);
  Checkpoint checkpoint{.parameters = take_tensors("parameters.", file, contents),
                        .first_moments = take_tensors("first_moments.", file, contents),
                        .second_moments = take_tensors("second_moments.", file, contents),
                        .best = std::nullopt,
                        .best_nll = read_number<double>(file, contents, "best_nll"),
                        .epochs_since_best = read_number<int64_t>(file, contents, "epochs_since_best"),
                        .epoch = read_number<int64_t>(file, contents, "epoch"),
                        .step = read_number<int64_t>(file, contents, "step"),
                        .options = {}};
  if (!contents.tensors.empty()) checkpoint.best = take_tensors("best.", file, contents);
  for (const auto& [key, value] : contents.metadata) {
    if (key.starts_with(kOptionPrefix)) checkpoint.options[key.substr(kOptionPrefix.size())] = value;
  }
  return checkpoint;
}

}  // namespace rewardhead::training
