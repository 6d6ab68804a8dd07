// SPDX-License-Identifier: Apache-2.0
#include "host/cli/table.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>

namespace rewardhead::cli {
namespace {

using evaluation::Evaluation;
using evaluation::Metrics;

size_t code_points(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string padded(const std::string& text, size_t width, bool right) {
  const std::string space(width - std::min(width, code_points(text)), ' ');
  return right ? space + text : text + space;
}

// At most `width` code points, the last of them an ellipsis where something was cut off.
std::string shortened(const std::string& text, size_t width) {
  if (code_points(text) <= width) return text;
  size_t end = 0;
  for (size_t points = 0; points < width; ++end) points += (text[end] & 0xC0) != 0x80;
  return text.substr(0, end - 1) + "…";
}

std::string with_thousands(int64_t count) {
  std::string text = std::to_string(count);
  for (auto i = static_cast<std::ptrdiff_t>(text.size()) - 3; i > 0; i -= 3) text.insert(static_cast<size_t>(i), ",");
  return text;
}

std::string interval(const Metrics& m) {
  if (!m.accuracy_interval) return "-";
  return three_decimals(m.accuracy_interval->low) + ".." + three_decimals(m.accuracy_interval->high);
}

// Thirty-two cells filled to `value` in eighths, with the mark's cell drawn over them.
std::string bar(double value, const std::optional<double>& mark) {
  constexpr int kCells = 32;
  constexpr const char* kEighths[] = {" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};
  const int filled = static_cast<int>(std::lround(value * kCells * 8));
  const int marked = mark ? std::min(static_cast<int>(*mark * kCells), kCells - 1) : -1;
  std::string text;
  for (int cell = 0; cell < kCells; ++cell) {
    text += cell == marked ? "┃" : kEighths[std::clamp(filled - 8 * cell, 0, 8)];
  }
  return text;
}

}  // namespace

std::string three_decimals(const std::optional<double>& value) {
  if (!value) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.3f", *value);
  return text;
}

void print_table(std::ostream& out, const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], code_points(row[i]));
  }
  for (const auto& row : rows) {
    out << "  ";
    for (size_t i = 0; i < row.size(); ++i) out << (i == 0 ? "" : "   ") << padded(row[i], widths[i], i > 0);
    out << "\n";
  }
}

void print_metrics(std::ostream& out, const std::vector<NamedEvaluation>& evaluations) {
  using Field = std::function<std::string(const Metrics&)>;
  const auto number = [](auto member) -> Field {
    return [member](const Metrics& m) { return three_decimals(m.*member); };
  };
  const bool lengths = evaluations.front().second->all.accuracy_longer_rule.has_value();
  const bool grouped = !evaluations.front().second->groups.empty();
  std::vector<std::pair<std::string, Field>> fields{
      {"pairs", [](const Metrics& m) { return with_thousands(m.pairs); }},
      {"accuracy", number(&Metrics::accuracy)},
      {grouped ? "  95 % interval, over groups" : "  95 % interval, over pairs (no groups)", interval}};
  if (lengths) {
    fields.insert(fields.end(), {{"  of the rule \"the longer wins\"", number(&Metrics::accuracy_longer_rule)},
                                 {"  where the longer is preferred", number(&Metrics::accuracy_longer_chosen)},
                                 {"  where the shorter is preferred", number(&Metrics::accuracy_shorter_chosen)}});
  }
  fields.insert(fields.end(), {{"negative log-likelihood", number(&Metrics::nll)},
                               {"Brier score", number(&Metrics::brier)},
                               {"expected calibration error", number(&Metrics::ece)},
                               {"loss", number(&Metrics::loss)},
                               {"mean margin", number(&Metrics::margin_mean)},
                               {"mean reward", number(&Metrics::reward_mean)},
                               {"  standard deviation", number(&Metrics::reward_std)}});
  if (lengths) fields.emplace_back("  correlation with length", number(&Metrics::reward_length_correlation));

  std::vector<std::vector<std::string>> rows;
  if (evaluations.size() > 1) {
    rows.push_back({""});
    for (const auto& [name, evaluation] : evaluations) rows.front().push_back(name);
  }
  for (const auto& [label, field] : fields) {
    rows.push_back({label});
    for (const auto& [name, evaluation] : evaluations) rows.back().push_back(field(evaluation->all));
  }
  print_table(out, rows);
}

void print_group_bars(std::ostream& out, const std::string& title, const Evaluation& evaluation) {
  constexpr size_t kLongestName = 32;
  size_t width = 0;
  for (const auto& [name, metrics] : evaluation.groups) width = std::max(width, code_points(name));
  width = std::min(width, kLongestName);
  const bool lengths = evaluation.all.accuracy_longer_rule.has_value();
  out << title << (lengths ? "   (┃ the longer wins)" : "") << "\n";
  for (const auto& [name, metrics] : evaluation.groups) {
    if (!metrics.accuracy) continue;
    out << "  " << padded(shortened(name, width), width, false) << " ▕"
        << bar(*metrics.accuracy, metrics.accuracy_longer_rule) << "▏ " << three_decimals(metrics.accuracy);
    if (lengths) out << "  ┃ " << three_decimals(metrics.accuracy_longer_rule);
    out << "  of " << with_thousands(metrics.pairs) << " pairs\n";
  }
}

}  // namespace rewardhead::cli
