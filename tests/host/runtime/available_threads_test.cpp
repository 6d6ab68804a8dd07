// SPDX-License-Identifier: Apache-2.0
#include "host/runtime/available_threads.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cmath>
#include <fstream>

namespace rewardhead::runtime {
namespace {

namespace fs = std::filesystem;

TEST(AvailableThreads, FollowTheAffinityMask) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  EXPECT_GE(available_threads(), 1);
  EXPECT_LE(available_threads(), CPU_COUNT(&before));
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu) {
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(available_threads(), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

// A made-up /sys/fs/cgroup; the formats are those of the kernel's cgroup-v1 and cgroup-v2 documents.
class CgroupQuota : public ::testing::Test {
 protected:
  CgroupQuota() : folder_(fs::temp_directory_path() / ("cgroup-test-" + std::to_string(::getpid()))) {}
  ~CgroupQuota() override { fs::remove_all(folder_); }
  void write(const fs::path& file, const std::string& text) {
    fs::create_directories((folder_ / file).parent_path());
    std::ofstream(folder_ / file) << text;
  }
  double quota() const { return cgroup_quota(folder_ / "root", folder_ / "membership"); }

 private:
  fs::path folder_;
};

TEST_F(CgroupQuota, IsInfiniteWithoutGroupsLimitsOrReadableText) {
  EXPECT_EQ(quota(), INFINITY);
  write("membership", "0::/a/b\n");
  EXPECT_EQ(quota(), INFINITY);
  write("root/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), INFINITY);
  write("root/a/cpu.max", "many 100000\n");
  EXPECT_EQ(quota(), INFINITY);
}

TEST_F(CgroupQuota, IsTheSmallestOfTheNestedGroups) {
  write("membership", "0::/a/b\n");
  write("root/a/b/cpu.max", "350000 100000\n");
  EXPECT_EQ(quota(), 3.5);
  write("root/a/cpu.max", "150000 100000\n");
  EXPECT_EQ(quota(), 1.5);
  write("root/other/cpu.max", "50000 100000\n");
  EXPECT_EQ(quota(), 1.5);
  write("root/cpu.max", "100000 100000\n");  // as a container sees its own group
  EXPECT_EQ(quota(), 1);
}

TEST_F(CgroupQuota, ReadsVersionOne) {
  write("membership", "5:memory:/x\n3:cpu,cpuacct:/x/y\n");
  write("root/cpu,cpuacct/x/y/cpu.cfs_quota_us", "-1\n");
  write("root/cpu,cpuacct/x/y/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), INFINITY);
  write("root/cpu,cpuacct/x/cpu.cfs_quota_us", "50000\n");
  write("root/cpu,cpuacct/x/cpu.cfs_period_us", "25000\n");
  EXPECT_EQ(quota(), 2);
}

}  // namespace
}  // namespace rewardhead::runtime
