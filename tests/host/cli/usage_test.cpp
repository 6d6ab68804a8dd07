// SPDX-License-Identifier: Apache-2.0
#include "rewardhead/rewardhead.h"
#include "tests/host/cli/process.h"

namespace rewardhead::cli {
namespace {

class UsageTest : public CliTest {
 protected:
  Arguments train(const std::string& name, const Arguments& more = {}) const {  // with no option twice
    return joined(joined({"train", "--out", path(name)}, data()), more);
  }
  // Exit code 2, a message that has `text`, nothing on standard output, and no run begun.
  void expect_usage_error(const Arguments& arguments, const std::string& text) const {
    const Result result = run(arguments);
    std::string line;
    for (const std::string& argument : arguments) line += " " + argument;
    EXPECT_EQ(result.exit_code, 2) << line << "\n" << result.err;
    EXPECT_NE(result.err.find(text), std::string::npos) << line << "\n" << result.err;
    EXPECT_EQ(result.out, "") << line;
    EXPECT_FALSE(std::filesystem::exists(path("run"))) << line;
  }
  void expect_failure(const Arguments& arguments, const std::string& text) const {
    const Result result = run(arguments);
    EXPECT_EQ(result.exit_code, 1) << result.err;
    EXPECT_NE(result.err.find(text), std::string::npos) << result.err;
    EXPECT_EQ(result.out, "");
  }
  std::string trained() const {
    EXPECT_EQ(run(train("trained", {"--epochs", "1"})).exit_code, 0);
    return path("trained") / "model.safetensors";
  }
};

TEST_F(UsageTest, WholeNumbersAreStrictlyDecimal) {
  for (const char* option : {"--hidden", "--epochs", "--batch-pairs", "--warmup", "--seed", "--patience", "--folds",
                             "--fold", "--checkpoint-every", "--log-every", "--threads"}) {
    for (const char* value : {"", "x", "1x", "1.0", "1e3", "+1", "0x10", "nan", "-1", "99999999999999999999"}) {
      expect_usage_error(train("run", {option, value}),
                         option + std::string(": '") + value + "' is not a whole number");
    }
  }
  for (const auto& [option, value] : {std::pair{"--epochs", "0"}, {"--threads", "1025"}, {"--folds", "1"}}) {
    expect_usage_error(train("run", {option, value}), option + std::string(": '") + value + "' is not a whole number");
  }
}

TEST_F(UsageTest, NumbersAreStrictlyDecimal) {
  for (const char* option : {"--learning-rate", "--weight-decay", "--clip-norm", "--holdout"}) {
    for (const char* value :
         {"", "x", "1x", "0x1p3", "nan", "NaN", "inf", "-inf", "infinity", "-0.1", "1e999", "1,5"}) {
      expect_usage_error(train("run", {option, value}), option + std::string(": '") + value + "' is not a decimal");
    }
  }
  expect_usage_error(train("run", {"--holdout", "1"}), "--holdout: '1' is not");
}

TEST_F(UsageTest, UnknownWordsListTheKnownOnes) {
  expect_usage_error(train("run", {"--schedule", "step"}), "--schedule: 'step' is not one of constant|cosine|linear");
  expect_usage_error(train("run", {"--init", "xavier"}), "--init: 'xavier' is not one of torch|he|normal");
  expect_usage_error(train("run", {"--device", "gpu"}), "--device: 'gpu' is not one of auto|cpu|cuda");
  expect_usage_error(train("run", {"--isa", "AVX2"}), "--isa: 'AVX2' is not one of auto|");
  expect_usage_error(train("run", {"--objective", "hinge"}), "--objective: 'hinge' is not one of bradley-terry");
}

TEST_F(UsageTest, NamesOfFilesAreNotEmpty) {
  for (const char* option : {"--embeddings", "--pairs", "--items", "--out", "--resume", "--config"}) {
    expect_usage_error({"train", option, ""}, option + std::string(": is empty, where a name is expected"));
  }
  expect_usage_error({"train", "--items="}, "--items");
}

TEST_F(UsageTest, OptionsThatAreMissingOrDoNotGoTogether) {
  expect_usage_error({}, "subcommand");
  expect_usage_error({"fly"}, "'fly' is not one of train evaluate score info");
  expect_usage_error({"fly", "--epochs", "3"}, "'fly' is not one of train evaluate score info");
  expect_usage_error({"fly", "train"}, "fly");
  expect_usage_error(train("run", {"--fly"}), "--fly");
  expect_usage_error(train("run", {"--epochs"}), "--epochs");
  expect_usage_error(train("run", {"--epochs", "1", "--epochs", "2"}), "--epochs");
  expect_usage_error({"train"}, "--embeddings: is required");
  expect_usage_error({"train", "--embeddings", "e.npy"}, "--pairs: is required");
  expect_usage_error({"train", "--embeddings", "e.npy", "--pairs", "p.csv"}, "--out: is required");
  expect_usage_error(
      {"train", "--embeddings", "e.npy", "--pairs", "p.csv", "--out", path("run"), "--group-column", "g"},
      "--group-column: needs --items");
  expect_usage_error(
      {"train", "--embeddings", "e.npy", "--pairs", "p.csv", "--out", path("run"), "--length-column", "n"},
      "--length-column: needs --items");
  expect_usage_error(train("run", {"--folds", "3", "--group-column", "topic"}), "--folds: needs --fold");
  expect_usage_error(train("run", {"--fold", "0", "--group-column", "topic"}), "--fold: needs --folds");
  expect_usage_error(train("run", {"--folds", "3", "--fold", "0"}), "--folds: needs --group-column");
  expect_usage_error(train("run", {"--folds", "3", "--fold", "3", "--group-column", "topic"}), "--fold: is 3");
  expect_usage_error(train("run", {"--folds", "3", "--fold", "0", "--holdout", "0.5", "--group-column", "topic"}),
                     "--holdout: cannot be used together with --folds");
  expect_usage_error(train("run", {"--patience", "3"}), "--patience: needs --holdout or --folds");
  expect_usage_error(train("run", {"--resume", path("run")}), "--resume: cannot be used together with --out");
  expect_usage_error({"train", "--resume", path("run"), "--config", "c.toml"},
                     "--resume: cannot be used together with --config");
  expect_usage_error({"evaluate", "--embeddings", "e.npy", "--pairs", "p.csv"}, "--model: is required");
  expect_usage_error({"evaluate", "--model", "m", "--embeddings", "e.npy", "--pairs", "p.csv", "--rewards", "r.txt"},
                     "--rewards: 'r.txt' ends in neither .npy nor .csv");
  expect_usage_error({"evaluate", "--model", "m", "--embeddings", "e.npy", "--pairs", "p.csv", "--rewards", "-"},
                     "--rewards: '-' ends in neither .npy nor .csv");
  expect_usage_error({"score", "--model", "m", "--embeddings", "e.npy"}, "--out: is required");
  expect_usage_error({"score", "--model", "m", "--embeddings", "e.npy", "--out", "r"}, "--out: 'r' ends in neither");
}

TEST_F(UsageTest, EveryHelpHasAnExample) {
  for (const char* command : {"train", "evaluate", "score", "info"}) {
    const Result result = run({command, "--help"});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_NE(result.out.find(std::string("Example:\n  rewardhead ") + command), std::string::npos) << result.out;
    EXPECT_EQ(result.err, "");
  }
  EXPECT_EQ(run({"--version"}).out, std::string(rh_version()) + "\n");
}

TEST_F(UsageTest, WhatCannotBeReadOrDoneFails) {
  expect_failure({"train", "--embeddings", path("none.npy"), "--pairs", sample_.pairs_file, "--out", path("run")},
                 "none.npy");
  EXPECT_FALSE(std::filesystem::exists(path("run")));
  const std::string model = trained();
  expect_failure(train("trained"), "trained: holds a run already");
  const auto wide = write("wide.npy", npy_file(std::vector<float>(26, 1.0f), 2, 13));
  expect_failure({"score", "--model", model, "--embeddings", wide, "--out", "-"},
                 "has input_dim 12, but " + wide.string() + " has 13 columns");
  expect_failure({"score", "--model", model, "--embeddings", sample_.embeddings_file, "--out", path("no/r.npy")},
                 "no/r.npy");
  expect_failure(train("run", {"--group-column", "debate"}), "debate");
  expect_failure({"train", "--resume", path("run")}, "run: cannot be opened as a folder");
  write("cross.csv", "chosen,rejected\nitem1,item11\n");
  expect_failure(
      joined({"evaluate", "--model", model, "--group-column", "topic"},
             {"--embeddings", sample_.embeddings_file, "--items", sample_.items_file, "--pairs", path("cross.csv")}),
      "'item1' of group 'topic0' with 'item11' of group 'topic1'");
}

TEST_F(UsageTest, CudaNeedsADevice) {
  if (run({"info", "--json"}).out.find("\"cuda\": true") != std::string::npos) GTEST_SKIP() << "this machine has one";
  expect_failure({"info", "--device", "cuda"}, "cuda");
  expect_failure(train("run", {"--device", "cuda"}), "cuda");
  EXPECT_FALSE(std::filesystem::exists(path("run")));
}

TEST_F(UsageTest, OutputThatCannotBeWrittenFails) {
  const std::string model = trained();
  Process process({"score", "--model", model, "--embeddings", sample_.embeddings_file, "--out", "-"}, "/dev/full",
                  path("stderr"));
  const Result result = process.wait();
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.err, "rewardhead: standard output cannot be written\n");
}

}  // namespace
}  // namespace rewardhead::cli
