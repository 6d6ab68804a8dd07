// SPDX-License-Identifier: Apache-2.0
#include <chrono>

#include "host/training/checkpoint.h"
#include "tests/host/cli/process.h"

namespace rewardhead::cli {
namespace {

class CrashTest : public CliTest {
 protected:
  // Starts `arguments` and sends SIGINT as soon as the first epoch is done.
  Result interrupted(const Arguments& arguments, const std::string& name) const {
    Process process(arguments, path("stdout"), path("stderr"));
    const auto metrics = path(name) / "metrics.jsonl";
    const uintmax_t before = size_of(metrics);
    for (int i = 0; i < 10000 && size_of(metrics) <= before; ++i) sleep_ms(1);
    process.signal(SIGINT);
    return process.wait();
  }
  static uintmax_t size_of(const std::filesystem::path& file) {
    std::error_code error;
    const uintmax_t size = std::filesystem::file_size(file, error);
    return error ? 0 : size;
  }
  static void sleep_ms(double milliseconds) {
    std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(milliseconds));
  }
};

TEST_F(CrashTest, SigintFinishesTheEpochSavesAndExitsWith130) {
  ASSERT_EQ(run(long_train("whole")).exit_code, 0);
  const Result first = interrupted(long_train("run", {"--checkpoint-every", "0"}), "run");
  EXPECT_EQ(first.exit_code, 130) << first.err;
  EXPECT_EQ(first.out, "");
  EXPECT_NE(first.err.find("Go on with: rewardhead train --resume " + path("run").string()), std::string::npos);
  const auto checkpoint = training::load_checkpoint(path("run/checkpoint.safetensors"));
  EXPECT_GE(checkpoint.epoch, 1);
  EXPECT_LT(checkpoint.epoch, 400);
  const std::string lines = contents_of(path("run/metrics.jsonl"));
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), checkpoint.epoch);
  EXPECT_TRUE(std::filesystem::exists(path("run/model.safetensors")));
  EXPECT_FALSE(std::filesystem::exists(path("run/report.json")));

  ASSERT_EQ(run({"train", "--resume", path("run")}).exit_code, 0);
  expect_same_run("whole", "run");
}

// A run that checkpoints every epoch is killed at random moments and resumed until it was killed 50 times while it ran.
// A run that ends first must equal the undisturbed one, and another begins.
TEST_F(CrashTest, KillLeavesTheOldOrTheNewCheckpoint) {
  const Arguments every{"--checkpoint-every", "1"};
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(run(long_train("whole", every)).exit_code, 0);
  const std::chrono::duration<double, std::milli> whole = std::chrono::steady_clock::now() - start;
  Random random(1);
  int kills = 0, runs = 0, at_checkpoint = 0;
  std::string name;
  while (kills < 50) {
    const bool fresh = name.empty();
    if (fresh) name = "run" + std::to_string(++runs);
    // Killed before it wrote its options, a folder holds no run yet and is begun anew.
    const bool begun = std::filesystem::exists(path(name) / "config.toml");
    Process process(begun ? Arguments{"train", "--resume", path(name)} : long_train(name, every), path("stdout"),
                    path("stderr"));
    sleep_ms(whole.count() / 8 * random.uniform());
    process.signal(SIGKILL);
    const Result result = process.wait();
    if (result.exit_code == 0) {
      expect_same_run("whole", name);
      name.clear();
      continue;
    }
    ASSERT_EQ(result.exit_code, 128 + SIGKILL) << result.err;
    ++kills;
    const auto file = path(name) / "checkpoint.safetensors";
    if (!std::filesystem::exists(file)) continue;
    ++at_checkpoint;
    ASSERT_NO_THROW(training::load_checkpoint(file)) << "after kill " << kills;
  }
  EXPECT_GE(at_checkpoint, 25);  // otherwise the kills came too early to show anything
  if (name.empty()) return;
  const Result result =
      run(std::filesystem::exists(path(name) / "config.toml") ? Arguments{"train", "--resume", path(name)}
                                                              : long_train(name, every));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  expect_same_run("whole", name);
  for (const auto& entry : std::filesystem::directory_iterator(path(name))) {
    EXPECT_EQ(entry.path().string().find(".tmp-"), std::string::npos) << entry.path();
  }
}

}  // namespace
}  // namespace rewardhead::cli
