// SPDX-License-Identifier: Apache-2.0
#include "host/runtime/available_threads.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <thread>

namespace rewardhead::runtime {
namespace {

namespace fs = std::filesystem;
constexpr double kUnlimited = std::numeric_limits<double>::infinity();

int affinity_threads() {
  for (size_t processors = 1024; processors <= 1 << 16; processors *= 4) {
    std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(processors), [](cpu_set_t* s) { CPU_FREE(s); });
    const size_t bytes = CPU_ALLOC_SIZE(processors);
    if (set && sched_getaffinity(0, bytes, set.get()) == 0) return CPU_COUNT_S(bytes, set.get());
  }
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// Of one group: version 2 has "QUOTA PERIOD" or "max PERIOD" in one file, version 1 a file each, QUOTA -1 for none.
double quota_of(const fs::path& group) {
  double quota = 0, period = 0;
  if (std::ifstream both(group / "cpu.max"); both >> quota >> period && quota > 0 && period > 0) return quota / period;
  std::ifstream first(group / "cpu.cfs_quota_us"), second(group / "cpu.cfs_period_us");
  if (first >> quota && second >> period && quota > 0 && period > 0) return quota / period;
  return kUnlimited;
}

}  // namespace

double cgroup_quota(const fs::path& root, const fs::path& membership) {
  double quota = std::min(quota_of(root), quota_of(root / "cpu"));  // where a container sees its own group as the root
  std::ifstream lines(membership);
  for (std::string line; std::getline(lines, line);) {  // ID:CONTROLLERS:/PATH
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos || line.compare(second + 1, 1, "/") != 0) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const fs::path mount = controllers.empty() ? root : root / controllers;
    for (fs::path group = line.substr(second + 2); !group.empty(); group = group.parent_path()) {
      quota = std::min(quota, quota_of(mount / group));
    }
  }
  return quota;
}

int available_threads() {
  const double quota = std::ceil(cgroup_quota("/sys/fs/cgroup", "/proc/self/cgroup"));
  return std::max(1, static_cast<int>(std::min<double>(affinity_threads(), quota)));
}

}  // namespace rewardhead::runtime
