// SPDX-License-Identifier: Apache-2.0
#include "host/evaluation/metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "host/dataset/error.h"

namespace rewardhead::evaluation {
namespace {

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
double sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }
double cross_entropy(double d, double label) {  // a factor of 0 must not meet an infinite softplus
  return (label > 0 ? label * softplus(-d) : 0.0) + (label < 1 ? (1 - label) * softplus(d) : 0.0);
}
// 1, 1/2 or 0 as the first is larger, equal or smaller.
double win(double a, double b) { return a > b ? 1 : a == b ? 0.5 : 0; }

struct Mean {
  double sum = 0;
  int64_t count = 0;
  void add(double value) {
    sum += value;
    ++count;
  }
  double value() const { return sum / static_cast<double>(count); }
  std::optional<double> optional() const { return count == 0 ? std::nullopt : std::optional(value()); }
};

class CalibrationBins {
 public:
  void add(double p, double hit) {
    const double confidence = std::max(p, 1 - p);
    Bin& bin = bins_[std::min(static_cast<size_t>((confidence - 0.5) * 2 * kBins), kBins - 1)];
    bin.confidence += confidence;
    bin.hits += hit;
    ++count_;
  }
  std::optional<double> error() const {
    if (count_ == 0) return std::nullopt;
    double sum = 0;
    for (const Bin& bin : bins_) sum += std::abs(bin.hits - bin.confidence);
    return sum / static_cast<double>(count_);
  }

 private:
  static constexpr size_t kBins = 15;
  struct Bin {
    double confidence = 0, hits = 0;
  };
  std::array<Bin, kBins> bins_{};
  int64_t count_ = 0;
};

// Pearson's correlation, two passes; nullopt where one of the two does not vary.
std::optional<double> correlation(const std::vector<double>& x, const std::vector<double>& y) {
  Mean mean_x, mean_y;
  for (size_t i = 0; i < x.size(); ++i) mean_x.add(x[i]), mean_y.add(y[i]);
  double xx = 0, yy = 0, xy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double dx = x[i] - mean_x.value(), dy = y[i] - mean_y.value();
    xx += dx * dx;
    yy += dy * dy;
    xy += dx * dy;
  }
  if (!(xx > 0) || !(yy > 0)) return std::nullopt;
  return xy / std::sqrt(xx * yy);
}

void add_row_metrics(std::span<const float> rewards, const dataset::Preferences& pairs, const dataset::Items* items,
                     Metrics& metrics) {
  std::vector<double> row_rewards, row_lengths;
  for (const int32_t row : dataset::distinct_rows(pairs)) {
    row_rewards.push_back(rewards[static_cast<size_t>(row)]);
    if (items && !items->lengths.empty()) row_lengths.push_back(items->lengths[static_cast<size_t>(row)]);
  }
  Mean mean, variance;
  for (const double reward : row_rewards) mean.add(reward);
  for (const double reward : row_rewards) variance.add((reward - mean.value()) * (reward - mean.value()));
  metrics.reward_mean = mean.value();
  metrics.reward_std = std::sqrt(variance.value());
  if (!row_lengths.empty()) metrics.reward_length_correlation = correlation(row_rewards, row_lengths);
}

// Without groups every decided pair is its own cluster.
std::vector<Cluster> clusters(const std::vector<double>& hits, const dataset::Preferences& pairs,
                              const dataset::Items* items) {
  std::vector<Cluster> list;
  if (!items || items->groups.empty()) {
    for (const double hit : hits) {
      if (hit >= 0) list.push_back({hit, 1});
    }
    return list;
  }
  std::map<std::string_view, Cluster> groups;
  for (size_t i = 0; i < hits.size(); ++i) {
    if (hits[i] < 0) continue;
    Cluster& cluster = groups[items->groups[static_cast<size_t>(pairs.chosen[i])]];
    cluster.hits += hits[i];
    ++cluster.count;
  }
  for (const auto& [name, cluster] : groups) list.push_back(cluster);
  return list;
}

// The response that y prefers and the other one; nullopt where it is undecided.
struct Decision {
  size_t preferred, other;
};
std::optional<Decision> decide(const dataset::Preferences& pairs, size_t i) {
  const float label = pairs.label.empty() ? 1.0f : pairs.label[i];
  const size_t chosen = static_cast<size_t>(pairs.chosen[i]), rejected = static_cast<size_t>(pairs.rejected[i]);
  if (label == 0.5f) return std::nullopt;
  return label > 0.5f ? Decision{chosen, rejected} : Decision{rejected, chosen};
}

Metrics measure(std::span<const float> rewards, const dataset::Preferences& pairs, const dataset::Items* items) {
  const bool has_lengths = items && !items->lengths.empty();
  Mean loss, nll, brier, margin, accuracy, longer_chosen, shorter_chosen;
  CalibrationBins calibration;
  constexpr double kUndecided = -1;
  std::vector<double> hits(pairs.chosen.size(), kUndecided);
  for (size_t i = 0; i < hits.size(); ++i) {
    const size_t chosen = static_cast<size_t>(pairs.chosen[i]), rejected = static_cast<size_t>(pairs.rejected[i]);
    const double label = pairs.label.empty() ? 1 : pairs.label[i];
    const double weight = pairs.weight.empty() ? 1 : pairs.weight[i];
    const double d = static_cast<double>(rewards[chosen]) - rewards[rejected];
    loss.add(weight * cross_entropy(d - (pairs.margin.empty() ? 0 : pairs.margin[i]), label));
    nll.add(cross_entropy(d, label));
    brier.add((sigmoid(d) - label) * (sigmoid(d) - label));
    margin.add(d);
    const auto decision = decide(pairs, i);
    if (!decision) continue;
    hits[i] = win(rewards[decision->preferred], rewards[decision->other]);
    accuracy.add(hits[i]);
    calibration.add(sigmoid(d), hits[i]);
    if (!has_lengths) continue;
    const double longer = win(items->lengths[decision->preferred], items->lengths[decision->other]);
    if (longer == 1) longer_chosen.add(hits[i]);
    if (longer == 0) shorter_chosen.add(hits[i]);
  }
  Metrics metrics{.pairs = pairs.size(),
                  .loss = loss.value(),
                  .accuracy = accuracy.optional(),
                  .accuracy_longer_rule = longer_rule_accuracy(pairs, items),
                  .accuracy_interval = bootstrap_interval(clusters(hits, pairs, items)),
                  .nll = nll.value(),
                  .brier = brier.value(),
                  .ece = calibration.error(),
                  .margin_mean = margin.value(),
                  .accuracy_longer_chosen = longer_chosen.optional(),
                  .accuracy_shorter_chosen = shorter_chosen.optional(),
                  .reward_length_correlation = std::nullopt};
  add_row_metrics(rewards, pairs, items, metrics);
  return metrics;
}

}  // namespace

Evaluation evaluate(std::span<const float> rewards, const dataset::Preferences& pairs, const dataset::Items* items) {
  for (const int32_t row : dataset::distinct_rows(pairs)) {
    if (std::isfinite(rewards[static_cast<size_t>(row)])) continue;
    throw InputError("the model's reward of row " + std::to_string(row) + " is " +
                     std::to_string(rewards[static_cast<size_t>(row)]) + ", where a finite number is expected");
  }
  Evaluation evaluation{.all = measure(rewards, pairs, items), .groups = {}};
  if (!items || items->groups.empty()) return evaluation;
  std::map<std::string, std::vector<int64_t>> indices;
  for (size_t i = 0; i < pairs.chosen.size(); ++i) {
    indices[items->groups[static_cast<size_t>(pairs.chosen[i])]].push_back(static_cast<int64_t>(i));
  }
  for (const auto& [name, members] : indices) {
    evaluation.groups.emplace(name, measure(rewards, dataset::select(pairs, members), items));
  }
  return evaluation;
}

std::optional<double> longer_rule_accuracy(const dataset::Preferences& pairs, const dataset::Items* items) {
  if (!items || items->lengths.empty()) return std::nullopt;
  Mean accuracy;
  for (size_t i = 0; i < pairs.chosen.size(); ++i) {
    const auto decision = decide(pairs, i);
    if (decision) accuracy.add(win(items->lengths[decision->preferred], items->lengths[decision->other]));
  }
  return accuracy.optional();
}

Fit measure_fit(std::span<const float> rewards, const dataset::Preferences& pairs) {
  Mean nll, accuracy;
  for (size_t i = 0; i < pairs.chosen.size(); ++i) {
    const double d = static_cast<double>(rewards[static_cast<size_t>(pairs.chosen[i])]) -
                     rewards[static_cast<size_t>(pairs.rejected[i])];
    nll.add(cross_entropy(d, pairs.label.empty() ? 1 : pairs.label[i]));
    if (const auto decision = decide(pairs, i))
      accuracy.add(win(rewards[decision->preferred], rewards[decision->other]));
  }
  return {nll.value(), accuracy.optional()};
}

}  // namespace rewardhead::evaluation
