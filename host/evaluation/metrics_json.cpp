// SPDX-License-Identifier: Apache-2.0
#include "host/evaluation/metrics_json.h"

namespace rewardhead::evaluation {
namespace {

using nlohmann::ordered_json;

ordered_json number(const std::optional<double>& value) { return value ? ordered_json(*value) : ordered_json(); }

ordered_json fields(const Metrics& m, const char* interval_over) {
  ordered_json json;
  json["pairs"] = m.pairs;
  json["loss"] = m.loss;
  json["accuracy"] = number(m.accuracy);
  json["accuracy_longer_rule"] = number(m.accuracy_longer_rule);
  json["accuracy_interval"] = nullptr;
  json["accuracy_interval_over"] = nullptr;
  if (m.accuracy_interval) {
    json["accuracy_interval"] = {m.accuracy_interval->low, m.accuracy_interval->high};
    json["accuracy_interval_over"] = interval_over;
  }
  json["nll"] = m.nll;
  json["brier"] = m.brier;
  json["ece"] = number(m.ece);
  json["margin_mean"] = m.margin_mean;
  json["reward_mean"] = m.reward_mean;
  json["reward_std"] = m.reward_std;
  json["accuracy_longer_chosen"] = number(m.accuracy_longer_chosen);
  json["accuracy_shorter_chosen"] = number(m.accuracy_shorter_chosen);
  json["reward_length_correlation"] = number(m.reward_length_correlation);
  return json;
}

}  // namespace

ordered_json to_json(const Evaluation& evaluation) {
  ordered_json json = fields(evaluation.all, evaluation.groups.empty() ? "pairs" : "groups");
  json["groups"] = ordered_json::object();
  for (const auto& [name, metrics] : evaluation.groups) json["groups"][name] = fields(metrics, "groups");
  return json;
}

}  // namespace rewardhead::evaluation
