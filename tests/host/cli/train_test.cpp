// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "host/dataset/safetensors.h"
#include "tests/host/cli/process.h"

namespace rewardhead::cli {
namespace {

using nlohmann::json;
using TrainTest = CliTest;

TEST_F(TrainTest, JsonIsTheReport) {
  const Result result = run(train("run", {"--epochs", "20", "--learning-rate", "0.02", "--group-column", "topic",
                                          "--folds", "3", "--fold", "1", "--standardize", "--json"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, contents_of(path("run/report.json")));
  const json report = json::parse(result.out);
  for (const char* part : {"train", "held_out"}) {
    for (const char* key : {"pairs", "loss", "accuracy", "accuracy_longer_rule", "accuracy_interval", "nll", "brier",
                            "ece", "margin_mean", "reward_mean", "reward_std", "accuracy_longer_chosen",
                            "accuracy_shorter_chosen", "reward_length_correlation"}) {
      EXPECT_FALSE(report.at(part).at(key).is_null()) << part << " " << key;
    }
    EXPECT_EQ(report.at(part).at("accuracy_interval_over"), "groups");
  }
  EXPECT_EQ(report.at("train").at("pairs").get<int>() + report.at("held_out").at("pairs").get<int>(), 150);
  EXPECT_EQ(report.at("train").at("groups").size(), 4u);
  ASSERT_EQ(report.at("held_out").at("groups").size(), 2u);  // every third of the sorted groups, from the second
  EXPECT_TRUE(report.at("held_out").at("groups").contains("topic1"));
  EXPECT_TRUE(report.at("held_out").at("groups").contains("topic4"));
  EXPECT_GT(report.at("train").at("accuracy"), 0.8);

  std::istringstream lines(contents_of(path("run/metrics.jsonl")));
  int epoch = 0;
  for (std::string line; std::getline(lines, line);) EXPECT_EQ(json::parse(line).at("epoch"), ++epoch);
  EXPECT_EQ(epoch, 20);
}

TEST_F(TrainTest, WithoutHeldOutPairsThatPartIsNull) {
  const Result result = run(train("run", {"--epochs", "1", "--json"}));
  ASSERT_EQ(result.exit_code, 0);
  const json report = json::parse(result.out);
  EXPECT_TRUE(report.at("held_out").is_null());
  EXPECT_EQ(report.at("train").at("pairs"), 150);
  EXPECT_EQ(report.at("train").at("accuracy_interval_over"), "pairs");
}

TEST_F(TrainTest, TheTableShowsBothPartsBarsAndTheLongerRule) {
  const Result result = run(train("run", {"--epochs", "2", "--group-column", "topic", "--holdout", "0.3"}));
  ASSERT_EQ(result.exit_code, 0);
  for (const char* text : {"held out", "negative log-likelihood", "95 % interval, over groups", "▕█", "┃",
                           "Held-out accuracy by topic", "Choosing the longer text (by tokens) is right in 0."}) {
    EXPECT_NE(result.out.find(text), std::string::npos) << text << "\n" << result.out;
  }
  EXPECT_NE(result.err.find("epoch 2/2"), std::string::npos);
}

TEST_F(TrainTest, LogEverySetsTheLinesOfProgress) {
  const auto lines = [&](const char* name, const char* every) {
    const std::string text = run(train(name, {"--epochs", "10", "--log-every", every})).err;
    return std::count(text.begin(), text.end(), '\n');
  };
  EXPECT_EQ(lines("a", "0"), 0);
  EXPECT_EQ(lines("b", "1"), 10);
  EXPECT_EQ(lines("c", "4"), 3);  // 4, 8 and the last
}

TEST_F(TrainTest, EqualRunsGiveEqualBytesWithAnyThreads) {
  const Arguments options{"--epochs", "3", "--batch-pairs", "20", "--standardize"};
  ASSERT_EQ(run(train("run", options)).exit_code, 0);
  for (const char* threads : {"2", "3", "7"}) {
    const std::string name = std::string("threads") + threads;
    Arguments arguments = train(name, options);
    *(std::find(arguments.begin(), arguments.end(), "--threads") + 1) = threads;
    ASSERT_EQ(run(arguments).exit_code, 0);
    expect_same_run("run", name);
  }
}

TEST_F(TrainTest, ResumeTakesItsOptionsFromTheRun) {
  ASSERT_EQ(run(train("whole", {"--epochs", "7", "--standardize"})).exit_code, 0);
  ASSERT_EQ(run(train("run", {"--epochs", "4", "--standardize"})).exit_code, 0);
  const Result other = run({"train", "--resume", path("run"), "--weight-decay", "0.5"});
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_NE(other.err.find("--weight-decay is 0.5, but the checkpoint was made with 0.01"), std::string::npos);
  EXPECT_NE(contents_of(path("run/config.toml")).find("weight-decay = 0.01\n"), std::string::npos);
  ASSERT_EQ(run({"train", "--resume", path("run"), "--epochs", "7", "--threads", "2"}).exit_code, 0);
  expect_same_run("whole", "run");
}

TEST_F(TrainTest, ResumeNeedsTheSameInstructionSet) {
  ASSERT_EQ(run(train("whole", {"--epochs", "5", "--isa", "portable"})).exit_code, 0);
  ASSERT_EQ(run(train("run", {"--epochs", "3", "--isa", "portable"})).exit_code, 0);
  const Result other = run({"train", "--resume", path("run"), "--epochs", "5", "--isa", "reference"});
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_NE(other.err.find("--isa is reference, but the checkpoint was made with portable"), std::string::npos)
      << other.err;
  ASSERT_EQ(run({"train", "--resume", path("run"), "--epochs", "5", "--isa", "portable"}).exit_code, 0);
  expect_same_run("whole", "run");
}

TEST_F(TrainTest, PairsAcrossAnUngroupedSplitAreCounted) {
  const Result result = run(train("run", {"--epochs", "1", "--holdout", "0.3", "--log-every", "0", "--json"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json report = json::parse(result.out);
  const int kept = report.at("train").at("pairs").get<int>() + report.at("held_out").at("pairs").get<int>();
  EXPECT_EQ(result.err,
            std::to_string(150 - kept) + " of 150 pairs join a held-out item with a training one and are left out.\n");
}

TEST_F(TrainTest, StoppingEarlyIsSaid) {
  const Result result = run(train("run", {"--epochs", "500", "--learning-rate", "0.05", "--group-column", "topic",
                                          "--folds", "3", "--fold", "1", "--patience", "3", "--log-every", "500"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string lines = contents_of(path("run/metrics.jsonl"));
  const auto epochs = std::count(lines.begin(), lines.end(), '\n');
  ASSERT_LT(epochs, 500);
  EXPECT_EQ(result.err.find("epoch " + std::to_string(epochs) + "/500  "), 0u) << result.err;
  EXPECT_NE(result.err.find("Stopped early: no smaller held-out NLL for 3 epochs; the weights are those of epoch " +
                            std::to_string(epochs - 3) + ".\n"),
            std::string::npos)
      << result.err;
  EXPECT_NE(result.out.find("The held-out figures chose the epoch"), std::string::npos) << result.out;
}

TEST_F(TrainTest, ADivergedRunLeavesNothingUnlessItSaved) {
  const Arguments diverging{"--epochs", "50", "--learning-rate", "1e30"};
  for (int i = 0; i < 2; ++i) {
    const Result result = run(train("run", diverging));
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_NE(result.err.find("the loss is nan in epoch 2; a smaller --learning-rate"), std::string::npos)
        << result.err;
    EXPECT_FALSE(std::filesystem::exists(path("run")));
  }
  std::filesystem::create_directory(path("mine"));
  write("mine/notes.txt", "x");
  EXPECT_EQ(run(train("mine", diverging)).exit_code, 1);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path("mine")), {}), 1);

  EXPECT_EQ(run(train("saved", joined(diverging, {"--checkpoint-every", "1"}))).exit_code, 1);
  for (const char* file : {"config.toml", "metrics.jsonl", "checkpoint.safetensors"}) {
    EXPECT_TRUE(std::filesystem::exists(path("saved") / file)) << file;
  }
}

}  // namespace
}  // namespace rewardhead::cli
