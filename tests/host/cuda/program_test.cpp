// SPDX-License-Identifier: Apache-2.0
//
// The program on a GPU, which is the software device here, measured by the same program on the CPU.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "host/dataset/random.h"
#include "host/training/model.h"
#include "tests/host/cli/process.h"

namespace rewardhead::cli {
namespace {

using nlohmann::json;

class CudaProgram : public CliTest {
 protected:
  // Pairs with all that a pair can have, so that all of it is copied to the device, and rows that end between multiples
  // of 16 bytes.
  CudaProgram() {
    constexpr int64_t kColumns = Sample::kColumns + 1;
    std::vector<float> x;
    for (int64_t i = 0; i < Sample::kRows * kColumns; ++i) {
      const int64_t row = i / kColumns, column = i % kColumns;
      x.push_back(column < Sample::kColumns ? sample_.x[static_cast<size_t>(row * Sample::kColumns + column)]
                                            : 0.5f * static_cast<float>(row % 5));
    }
    write("embeddings13.npy", npy_file(x, Sample::kRows, kColumns));
    std::string lines = "chosen,rejected,m,w,l\n";
    for (size_t i = 0; i < sample_.pairs.chosen.size(); ++i) {
      const std::string margin = "0.0" + std::to_string(i % 7), weight = "1." + std::to_string(i % 9),
                        label = "0." + std::to_string(9 - i % 4);
      lines += "item" + std::to_string(sample_.pairs.chosen[i]) + ",item" + std::to_string(sample_.pairs.rejected[i]) +
               "," + margin + "," + weight + "," + label + "\n";
    }
    write("judged.csv", lines);
  }
  ~CudaProgram() override {
    for (const char* name : {"SIMT_SCHEDULE", "SIMT_SEED", "SIMT_MEMORY"}) unsetenv(name);
  }

  Arguments train(const std::string& name, const Arguments& more) const {
    return joined({"train", "--out", path(name), "--embeddings", path("embeddings13.npy"), "--items", sample_.items_file,
                   "--pairs", path("judged.csv"), "--margin-column", "m", "--weight-column", "w", "--label-column", "l",
                   "--standardize", "--learning-rate", "0.01"},
                  more);
  }
  const Arguments held_out_ = {"--group-column", "topic", "--folds", "3", "--fold", "1"};
  const Arguments batches_ = {"--batch-pairs", "22"};  // the last one of an epoch is short

  void expect_success(const Arguments& arguments) const {
    const Result result = run(arguments);
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }
  std::vector<json> epochs(const std::string& name) const {
    std::vector<json> records;
    std::istringstream lines(contents_of(path(name) / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) records.push_back(json::parse(line));
    return records;
  }
};

// Products take operands as two bfloat16 and are off by at most 3 2^-16 of the sum of magnitudes in each step; what
// AdamW, which divides by the gradient's magnitude, makes of that no formula says. Measured after 15 steps: weights
// differ by 4.2e-6 of the largest (9e-8 without hidden units), figures by 2.9e-6.
constexpr double kOfTheLargestWeight = 2e-5, kOfFigures = 3e-5;

void expect_near(const char* name, std::span<const float> actual, std::span<const float> expected) {
  ASSERT_EQ(actual.size(), expected.size()) << name;
  double largest = 0, difference = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(double{expected[i]}));
    difference = std::max(difference, std::abs(double{actual[i]} - double{expected[i]}));
  }
  EXPECT_LE(difference, kOfTheLargestWeight * largest) << name;
}

void expect_near(const json& actual, const json& expected) {
  const json flat = actual.flatten(), flat_expected = expected.flatten();
  ASSERT_EQ(flat.size(), flat_expected.size());
  for (const auto& [key, value] : flat_expected.items()) {
    if (value.is_number_float()) {
      EXPECT_NEAR(flat.at(key).get<double>(), value.get<double>(), kOfFigures) << key;
    } else {
      EXPECT_EQ(flat.at(key), value) << key;
    }
  }
}

TEST_F(CudaProgram, TrainsTheModelOfTheCpu) {
  for (const char* hidden : {"0", "20"}) {
    for (const char* batch : {"22", "0"}) {
      SCOPED_TRACE(std::string(hidden) + " hidden units, batches of " + batch);
      const std::string cpu = std::string("cpu") + hidden + batch, gpu = std::string("gpu") + hidden + batch;
      for (const std::string& name : {cpu, gpu}) {
        expect_success(train(name, joined(held_out_, {"--hidden", hidden, "--epochs", "3", "--batch-pairs", batch,
                                                      "--device", name == cpu ? "cpu" : "cuda"})));
      }
      const Head expected = training::load_model(path(cpu) / "model.safetensors");
      const Head actual = training::load_model(path(gpu) / "model.safetensors");
      expect_near("w1", actual.w1(), expected.w1());
      expect_near("b1", actual.b1(), expected.b1());
      expect_near("w2", actual.w2(), expected.w2());  // pairs do not see b2, and its gradient is rounding errors
      EXPECT_NE(contents_of(path(gpu) / "model.safetensors"), contents_of(path(cpu) / "model.safetensors"))
          << "one of them ran on the other's device";
      expect_near(json(epochs(gpu)), json(epochs(cpu)));
      json reports[2];
      for (const std::string& name : {cpu, gpu}) {
        reports[name == gpu] = json::parse(contents_of(path(name) / "report.json"));
        for (json& part : reports[name == gpu]) {
          part.erase("reward_mean");  // moves with b2
          for (json& group : part.at("groups")) group.erase("reward_mean");
        }
      }
      expect_near(reports[1], reports[0]);
    }
  }
}

// The order in which the device may take what streams and events leave open decides nothing. With nothing held out:
// scoring would wait for everything before the first step.
TEST_F(CudaProgram, RunsGiveEqualBytesInEveryOrder) {
  std::string first;
  for (const char* schedule : {"oldest-first", "newest-first", "random"}) {
    for (const char* seed : {"1", "2"}) {
      setenv("SIMT_SCHEDULE", schedule, 1);
      setenv("SIMT_SEED", seed, 1);
      const std::string name = std::string(schedule) + seed;
      expect_success(train(name, joined(batches_, {"--hidden", "5", "--epochs", "2", "--device", "cuda"})));
      if (first.empty()) first = name;
      expect_same_run(first, name);
      if (schedule != std::string("random")) break;
    }
  }
}

TEST_F(CudaProgram, ResumingGivesTheBytesOfAnUninterruptedRun) {
  const Arguments options =
      joined(joined(held_out_, batches_), {"--hidden", "5", "--device", "cuda", "--patience", "9"});
  expect_success(train("whole", joined(options, {"--epochs", "4"})));
  expect_success(train("run", joined(options, {"--epochs", "2"})));
  const Result elsewhere = run({"train", "--resume", path("run"), "--epochs", "4", "--device", "cpu"});
  EXPECT_EQ(elsewhere.exit_code, 1);
  EXPECT_NE(elsewhere.err.find("but the checkpoint was made with rewardhead_choices=1 device=rewardhead_software_device"),
            std::string::npos)
      << elsewhere.err;
  expect_success({"train", "--resume", path("run"), "--epochs", "4"});
  expect_same_run("whole", "run");
}

std::vector<float> npy_values(const std::string& bytes, size_t count) {
  std::vector<float> values(count);
  std::memcpy(values.data(), bytes.data() + bytes.size() - count * sizeof(float), count * sizeof(float));
  return values;
}

// score and evaluate, with more rows than two blocks have.
TEST_F(CudaProgram, ScoresAndEvaluatesAsTheCpu) {
  constexpr int64_t kRows = 9000, kColumns = 5, kHidden = 3;
  Random random(3);
  std::vector<float> x;
  for (int64_t i = 0; i < kRows * kColumns; ++i) x.push_back(static_cast<float>(random.normal()));
  write("x.npy", npy_file(x, kRows, kColumns));
  std::string pairs = "chosen,rejected\n";
  for (int64_t i = 0; i < kRows / 2; i += 9) pairs += std::to_string(i) + "," + std::to_string(i + kRows / 2) + "\n";
  write("pairs.csv", pairs);
  Head head(kColumns, kHidden);
  for (float& value : head.values()) value = static_cast<float>(random.normal());
  training::save_model(path("model.safetensors"), head);

  const auto score = [&](const std::string& device) {
    const Arguments inputs{"--model", path("model.safetensors"), "--embeddings", path("x.npy"), "--device", device};
    expect_success(joined({"score", "--out", path("scores.npy")}, inputs));
    const Result result =
        run(joined({"evaluate", "--pairs", path("pairs.csv"), "--json", "--rewards", path("rewards.npy")}, inputs));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(contents_of(path("scores.npy")), contents_of(path("rewards.npy")));
    return std::pair(npy_values(contents_of(path("scores.npy")), kRows), json::parse(result.out));
  };
  const auto [expected, expected_metrics] = score("cpu");
  for (const char* schedule : {"oldest-first", "newest-first"}) {
    setenv("SIMT_SCHEDULE", schedule, 1);
    const auto [actual, metrics] = score("cuda");
    for (size_t row = 0; row < kRows; ++row) {
      double magnitudes = 0;  // of the products that are summed
      for (size_t h = 0; h < kHidden; ++h) {
        for (size_t k = 0; k < kColumns; ++k) {
          magnitudes += std::abs(double{head.w2()[h]} * head.w1()[h * kColumns + k] * x[row * kColumns + k]);
        }
      }
      ASSERT_NEAR(actual[row], expected[row], 3 * 0x1p-16 * magnitudes + 1e-6) << row;
    }
    expect_near(metrics, expected_metrics);
  }
}

TEST_F(CudaProgram, TooLittleMemoryIsAnErrorWithBothNumbers) {
  // Enough for the kernels to prove themselves, which comes first, and a head that needs more.
  constexpr long kLittle = 2'000'000;
  const Arguments wide = {"--hidden", "8000", "--epochs", "1", "--device", "cuda"};
  setenv("SIMT_MEMORY", std::to_string(kLittle).c_str(), 1);
  const Result result = run(train("run", wide));
  EXPECT_EQ(result.exit_code, 1);
  const std::string before = "--device cuda: training needs ", free = std::to_string(kLittle);
  const size_t at = result.err.find(before);
  ASSERT_NE(at, std::string::npos) << result.err;
  EXPECT_NE(result.err.find(" bytes of the GPU's memory; " + free + " of " + free + " are free. "), std::string::npos)
      << result.err;
  EXPECT_FALSE(std::filesystem::exists(path("run")));

  const long needed = std::stol(result.err.substr(at + before.size()));
  setenv("SIMT_MEMORY", std::to_string(needed + 10'000).c_str(), 1);  // training fits, scoring beside it does not
  const Result scoring = run(train("run", joined(held_out_, wide)));
  EXPECT_EQ(scoring.exit_code, 1);
  EXPECT_NE(scoring.err.find("--device cuda: scoring needs "), std::string::npos) << scoring.err;
}

TEST_F(CudaProgram, ADivergedRunEndsAndSaysSo) {
  const Result result = run(train("run", {"--hidden", "5", "--device", "cuda", "--weight-decay", "1e30"}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.err.find("a smaller --learning-rate"), std::string::npos) << result.err;
}

TEST_F(CudaProgram, InstructionSetsAreThoseOfTheDevice) {
  const std::vector<json> kernels = json::parse(run({"info", "--device", "cuda", "--json"}).out).at("kernels");
  ASSERT_FALSE(kernels.empty());
  for (const json& kernel : kernels) {
    const std::string isa = kernel.at("implementation");
    if (kernel.at("operation") == "forward" && isa.starts_with("sm")) {
      expect_success(train(isa, {"--hidden", "5", "--epochs", "2", "--device", "cuda", "--isa", isa}));
    }
  }
  const Result result = run(train("run", {"--device", "cuda", "--isa", "portable"}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.err.find("isa is \"portable\"; expected one of auto, sm90a, sm80"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace rewardhead::cli
