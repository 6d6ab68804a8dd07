// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "tests/host/cli/process.h"

namespace rewardhead::cli {
namespace {

class ConfigTest : public CliTest {
 protected:
  Result with(const std::string& config, const Arguments& more = {}) const {
    return run(train("run", joined({"--config", write("run.toml", config)}, more)));
  }
};

TEST_F(ConfigTest, ARunsConfigRepeatsIt) {
  ASSERT_EQ(run(train("first", {"--epochs", "4", "--learning-rate", "0.1", "--clip-norm", "0.3333333333333333",
                                "--standardize", "--holdout", "0.3", "--batch-pairs", "16", "--schedule", "cosine",
                                "--init", "he", "--seed", "9007199254740993", "--group-column", "topic"}))
                .exit_code,
            0);
  ASSERT_EQ(run({"train", "--config", path("first/config.toml"), "--out", path("second")}).exit_code, 0);
  expect_same_run("first", "second");
  EXPECT_EQ(contents_of(path("first/config.toml")), contents_of(path("second/config.toml")));
}

TEST_F(ConfigTest, TheCommandLineWins) {
  ASSERT_EQ(with("epochs = 3\nstandardize = true\nhidden = 9\n", {"--epochs", "2", "--standardize=false"}).exit_code,
            0);
  const std::string written = contents_of(path("run/config.toml"));
  EXPECT_NE(written.find("epochs = 2\n"), std::string::npos) << written;
  EXPECT_NE(written.find("standardize = false\n"), std::string::npos) << written;
  EXPECT_NE(written.find("hidden = 6\n"), std::string::npos) << written;  // train() gives it
}

TEST_F(ConfigTest, ValuesAreCheckedAsOnTheCommandLine) {
  const auto expect_error = [&](const std::string& config, const std::string& text, int code = 2) {
    const Result result = with(config);
    EXPECT_EQ(result.exit_code, code) << config << result.err;
    EXPECT_NE(result.err.find(text), std::string::npos) << config << result.err;
    EXPECT_FALSE(std::filesystem::exists(path("run"))) << config;
  };
  expect_error("epoch = 3\n", "has the unknown option 'epoch'");
  expect_error("epochs = 3\n[train]\nseed = 1\n", "has the unknown option 'train'");
  expect_error("out = 'x'\n", "has the unknown option 'out'");  // a config says what is trained, not where to
  expect_error("help = true\n", "has the unknown option 'help'");
  expect_error("epochs = 2.5\n", "--epochs: '2.5' is not a whole number");
  expect_error("epochs = 'many'\n", "--epochs: 'many' is not a whole number");
  expect_error("epochs = [1, 2]\n", "--epochs: ");
  expect_error("learning-rate = nan\n", "--learning-rate: 'nan' is not a decimal number");
  expect_error("learning-rate = -inf\n", "--learning-rate: '-inf' is not a decimal number");
  expect_error("schedule = 'step'\n", "--schedule: 'step' is not one of");
  expect_error("standardize = 'maybe'\n", "standardize");
  expect_error("epochs = \n", "run.toml, line 1: ", 1);
  expect_error("epochs = 1\nepochs = 2\n", "run.toml, line 2: ", 1);
  const Result none = run(train("run", {"--config", path("none.toml")}));
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_EQ(none.err, "rewardhead: " + path("none.toml").string() + ": cannot be read: No such file or directory\n");
  const Result empty = run({"train", "--embeddings", sample_.embeddings_file, "--pairs", sample_.pairs_file, "--out",
                            path("run"), "--config", write("run.toml", "items = ''\n")});
  EXPECT_EQ(empty.exit_code, 2);
  EXPECT_NE(empty.err.find("--items: is empty"), std::string::npos) << empty.err;
}

}  // namespace
}  // namespace rewardhead::cli
