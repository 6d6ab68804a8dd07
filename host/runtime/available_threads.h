// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

namespace rewardhead::runtime {

// Threads that this process may use: the affinity mask, less what the control groups' CPU quotas allow, rounded up; at
// least 1.
int available_threads();

// The smallest CPU quota, in processors, of the control groups that `membership` (/proc/self/cgroup) names and of
// those around them, below the mount point `root` (/sys/fs/cgroup), version 1 or 2; infinity where none is set.
double cgroup_quota(const std::filesystem::path& root, const std::filesystem::path& membership);

}  // namespace rewardhead::runtime
