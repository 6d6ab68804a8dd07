// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/host/cli/process.h"

namespace rewardhead::cli {
namespace {

class RewardsTest : public CliTest {
 protected:
  RewardsTest() {
    EXPECT_EQ(run(train("run", {"--epochs", "5", "--standardize", "--group-column", "topic"})).exit_code, 0);
    model_ = path("run/model.safetensors");
  }
  Arguments score(const std::string& out, const Arguments& more = {}) const {
    return joined({"score", "--model", model_, "--embeddings", sample_.embeddings_file, "--out", out}, more);
  }
  Arguments evaluate(const Arguments& more) const {
    return joined(joined({"evaluate", "--model", model_}, data()), more);
  }

  std::string model_;
};

std::vector<float> npy_values(const std::string& bytes, size_t count) {
  std::vector<float> values(count);
  EXPECT_EQ(bytes.size(), 128 + 4 * count);
  EXPECT_EQ(bytes.substr(0, 8), std::string("\x93NUMPY\1\0", 8));
  EXPECT_NE(bytes.find("{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(count) + ",), }"),
            std::string::npos);
  std::memcpy(values.data(), bytes.data() + 128, 4 * count);
  return values;
}

TEST_F(RewardsTest, ScoreAndEvaluateWriteTheSameBytesWithAnyThreads) {
  for (const char* name : {"r.npy", "r.csv"}) {
    ASSERT_EQ(run(score(path(name), {"--items", sample_.items_file})).exit_code, 0);
    const std::string expected = contents_of(path(name));
    for (const char* threads : {"1", "2", "3", "7"}) {
      const std::string scored = path(std::string("s-") + threads + name);
      ASSERT_EQ(run(score(scored, {"--items", sample_.items_file, "--threads", threads})).exit_code, 0);
      EXPECT_EQ(contents_of(scored), expected) << scored;
      const std::string evaluated = path(std::string("e-") + threads + name);
      ASSERT_EQ(run(evaluate({"--rewards", evaluated, "--threads", threads})).exit_code, 0);
      EXPECT_EQ(contents_of(evaluated), expected) << evaluated;
    }
  }
}

TEST_F(RewardsTest, ARewardDoesNotDependOnTheOtherRows) {
  ASSERT_EQ(run(score(path("all.npy"))).exit_code, 0);
  const auto all = npy_values(contents_of(path("all.npy")), Sample::kRows);
  for (const auto& [first, count] : {std::pair<size_t, size_t>{0, 1}, {59, 1}, {5, 13}, {17, 43}}) {
    const auto begin = sample_.x.begin() + static_cast<std::ptrdiff_t>(first * Sample::kColumns);
    const std::vector<float> x(begin, begin + static_cast<std::ptrdiff_t>(count * Sample::kColumns));
    const auto rows = static_cast<int64_t>(count);
    const auto file = write("some.npy", npy_file(x, rows, Sample::kColumns));
    ASSERT_EQ(run({"score", "--model", model_, "--embeddings", file, "--out", path("some-r.npy")}).exit_code, 0);
    const auto some = npy_values(contents_of(path("some-r.npy")), count);
    for (size_t i = 0; i < count; ++i) EXPECT_EQ(some[i], all[first + i]) << "row " << first + i << " of " << count;
  }
}

TEST_F(RewardsTest, CsvHasTheSameNumbersAndStandardOutputTheSameText) {
  ASSERT_EQ(run(score(path("r.npy"))).exit_code, 0);
  ASSERT_EQ(run(score(path("r.csv"))).exit_code, 0);
  const auto rewards = npy_values(contents_of(path("r.npy")), Sample::kRows);
  std::istringstream lines(contents_of(path("r.csv")));
  std::string line;
  std::getline(lines, line);
  EXPECT_EQ(line, "row,reward");
  for (size_t row = 0; row < rewards.size(); ++row) {
    ASSERT_TRUE(std::getline(lines, line));
    const std::string prefix = std::to_string(row) + ",";
    ASSERT_EQ(line.substr(0, prefix.size()), prefix);
    float reward = 0;
    std::from_chars(line.data() + prefix.size(), line.data() + line.size(), reward);
    EXPECT_EQ(reward, rewards[row]);
  }
  EXPECT_FALSE(std::getline(lines, line));
  EXPECT_EQ(run(score("-")).out, contents_of(path("r.csv")));
}

TEST_F(RewardsTest, CsvQuotesIds) {
  std::string items = "id\n";
  for (int row = 0; row < Sample::kRows; ++row) {
    items += row == 1 ? "\"a \"\"b\"\", c\"\n" : "i" + std::to_string(row) + "\n";
  }
  const std::string out = run(score("-", {"--items", write("quoted.csv", items)})).out;
  EXPECT_EQ(out.substr(0, 18), "row,id,reward\n0,i0");
  EXPECT_NE(out.find("\n1,\"a \"\"b\"\", c\","), std::string::npos) << out;
}

TEST_F(RewardsTest, EvaluateAgreesWithTheReportOfTraining) {
  const Result result = run(evaluate({"--group-column", "topic", "--json"}));
  ASSERT_EQ(result.exit_code, 0);
  const auto report = nlohmann::ordered_json::parse(contents_of(path("run/report.json")));
  EXPECT_EQ(nlohmann::ordered_json::parse(result.out), report.at("train"));
  const Result table = run(evaluate({"--group-column", "topic"}));
  EXPECT_NE(table.out.find("Accuracy by topic"), std::string::npos) << table.out;
}

}  // namespace
}  // namespace rewardhead::cli
