// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <vector>

namespace rewardhead::cli {

// A usage error of option `name` unless `file` ends in .npy or .csv.
void check_rewards_file(const char* name, const std::string& file);

// Columns row, id (unless `ids` is null) and reward, with a header; nine significant digits tell every float from every
// other.
std::string rewards_csv(std::span<const float> rewards, const std::vector<std::string>* ids);

// .npy: fp32 [rows], format 1.0. .csv: as above. Written beside the target and renamed.
void write_rewards(const std::string& file, std::span<const float> rewards, const std::vector<std::string>* ids);

}  // namespace rewardhead::cli
