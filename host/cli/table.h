// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "host/evaluation/metrics.h"

namespace rewardhead::cli {

// Columns of text, the first flush left, the others flush right; widths count code points.
void print_table(std::ostream& out, const std::vector<std::vector<std::string>>& rows);

// Metrics as rows, one column for each evaluation; the names stand above where there are several.
using NamedEvaluation = std::pair<std::string, const evaluation::Evaluation*>;
void print_metrics(std::ostream& out, const std::vector<NamedEvaluation>& evaluations);

// A bar for each group's accuracy, from 0 to 1, with a mark where the rule "the longer response wins" stands.
void print_group_bars(std::ostream& out, const std::string& title, const evaluation::Evaluation& evaluation);

// "0.748", or "-" where it is undefined.
std::string three_decimals(const std::optional<double>& value);

}  // namespace rewardhead::cli
