// SPDX-License-Identifier: Apache-2.0
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <vector>

#include "host/dataset/error.h"
#include "host/dataset/split.h"
#include "host/evaluation/score.h"
#include "host/python/bindings/array.h"
#include "host/python/bindings/bindings.h"
#include "host/python/bindings/machine.h"
#include "host/training/model.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace rewardhead::python {
namespace {

nb::dict as_dict(dataset::Preferences pairs) {
  nb::dict part;
  part["chosen"] = as_array(std::move(pairs.chosen));
  part["rejected"] = as_array(std::move(pairs.rejected));
  part["label"] = pairs.label.empty() ? nb::none() : as_array(std::move(pairs.label));
  return part;
}

// What a run was made of, read and split as the program does, and the rewards of its model: `ids` and `groups` (lists,
// empty without items or groups), `lengths` (None without), `rewards`, and `train` and `held_out`, each with `chosen`,
// `rejected` (rows) and `label` (None without).
nb::dict read_run(const std::string& model, const std::string& embeddings, const std::string& tensor,
                  const std::string& pairs, const std::string& items, const std::string& chosen,
                  const std::string& rejected, std::optional<std::string> label, const std::string& group,
                  std::optional<std::string> length, double holdout, int folds, int fold, uint64_t seed) {
  if (folds > 0 && items.empty()) {
    throw InputError("folds is " + std::to_string(folds) + ", but items is empty; expected the file with the groups");
  }
  std::optional<dataset::Items> known;
  dataset::Split split;
  std::vector<float> rewards;
  {
    const nb::gil_scoped_release released;
    const Head head = training::load_model(model);
    const dataset::Embeddings rows = dataset::Embeddings::open(embeddings, tensor);
    training::check_input(model, head, rows);
    if (!items.empty()) {
      known = dataset::read_items(items, {group, length.value_or("tokens"), length.has_value()}, rows.rows());
    }
    const dataset::Items* looked_up = known ? &*known : nullptr;
    const dataset::Preferences all = dataset::read_preferences(
        pairs, {.chosen = chosen, .rejected = rejected, .margin = {}, .weight = {}, .label = std::move(label)},
        looked_up, rows.rows());
    split = folds > 0 ? dataset::split_folds(all, *known, folds, fold)
                      : dataset::split_holdout(all, looked_up, holdout, seed);
    rewards = evaluation::Scorer(context(0), rows, head.hidden()).score_all(head);
  }
  nb::dict run;
  run["ids"] = known ? known->ids : std::vector<std::string>{};
  run["groups"] = known ? known->groups : std::vector<std::string>{};
  run["lengths"] = known && !known->lengths.empty() ? as_array(std::move(known->lengths)) : nb::none();
  run["rewards"] = as_array(std::move(rewards));
  run["train"] = as_dict(std::move(split.train));
  run["held_out"] = as_dict(std::move(split.held_out));
  return run;
}

}  // namespace

void bind_data(nb::module_& module) {
  module.def("read_run", &read_run, nb::kw_only(), "model"_a, "embeddings"_a, "tensor"_a, "pairs"_a, "items"_a,
             "chosen"_a, "rejected"_a, "label"_a.none(), "group"_a, "length"_a.none(), "holdout"_a, "folds"_a, "fold"_a,
             "seed"_a);
}

}  // namespace rewardhead::python
