// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <nlohmann/json.hpp>

#include "rewardhead/rewardhead.h"
#include "tests/host/cli/process.h"

namespace rewardhead::cli {
namespace {

using InfoTest = CliTest;

TEST_F(InfoTest, EachOperationHasOneChosenKernelAndAReasonForEveryOther) {
  const Result result = run({"info", "--json", "--isa", "portable", "--threads", "3"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto info = nlohmann::json::parse(result.out);
  EXPECT_EQ(info.at("version"), rh_version());
  EXPECT_EQ(info.at("threads"), 3);
  EXPECT_EQ(info.at("isa"), "portable");
  EXPECT_EQ(info.at("device"), "cpu");
  EXPECT_NE(info.at("processor"), "");
  std::map<std::string, int> chosen;
  for (const auto& kernel : info.at("kernels")) {
    EXPECT_NE(kernel.at("reason"), "");
    EXPECT_EQ(kernel.at("chosen"), kernel.at("implementation") == "portable");
    chosen[kernel.at("operation")] += kernel.at("chosen") ? 1 : 0;
  }
  EXPECT_TRUE(chosen.contains("forward"));
  for (const auto& [operation, count] : chosen) EXPECT_EQ(count, 1) << operation;

  const std::string text = run({"info", "--isa", "portable"}).out;
  if (!info.at("cuda").get<bool>()) {
    const std::string reason = info.at("cuda_reason");
    EXPECT_FALSE(reason.empty());
    EXPECT_NE(text.find("GPU               none: " + reason + "\n"), std::string::npos) << text;
  }
  for (const char* part : {"processor", "instruction sets", "GPU", "forward\n", "* portable"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

}  // namespace
}  // namespace rewardhead::cli
