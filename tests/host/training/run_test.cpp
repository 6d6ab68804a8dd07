// SPDX-License-Identifier: Apache-2.0
#include "host/training/run.h"

#include <algorithm>

#include "host/training/model.h"
#include "tests/host/dataset/files.h"
#include "tests/host/sample.h"

namespace rewardhead::training {
namespace {

using dataset::contents_of;

struct Killed {};  // thrown in place of an end by a signal: nothing after it runs

class RunTest : public dataset::FileTest {
 protected:
  RunTest() {
    embeddings_ = dataset::Embeddings::open(write_sample(folder_).embeddings_file);
    const Sample sample = write_sample(folder_);
    const auto items = dataset::read_items(sample.items_file, {.group = "topic"}, Sample::kRows);
    split_ = dataset::split_folds(sample.pairs, items, 3, 1);
  }

  // Trains into `name` from what is there, until `epoch` is done and then by SIGINT or as if killed.
  enum class End { finish, interrupt, kill };
  void train(const std::string& name, const TrainOptions& options, End end, int64_t epoch = 0,
             int64_t checkpoint_every = 3) {
    std::filesystem::create_directories(path(name));
    std::ofstream(path(name) / "config.toml").flush();
    const RunFolder folder = RunFolder::resume(path(name));
    Trainer trainer(context_, embeddings_, split_, options);
    if (std::filesystem::exists(folder.checkpoint())) trainer.restore(load_checkpoint(folder.checkpoint()));
    std::atomic<bool> stop{false};
    try {
      const bool finished = run(trainer, folder, checkpoint_every, stop, [&](const EpochRecord& record) {
        if (end == End::kill && record.epoch == epoch) throw Killed{};
        stop = end == End::interrupt && record.epoch == epoch;
      });
      EXPECT_EQ(finished, end == End::finish);
    } catch (const Killed&) {
    }
  }

  void expect_same(const std::string& a, const std::string& b) {
    for (const char* file : {"model.safetensors", "metrics.jsonl", "checkpoint.safetensors"}) {
      EXPECT_FALSE(contents_of(path(a) / file).empty()) << file;
      EXPECT_EQ(contents_of(path(a) / file), contents_of(path(b) / file)) << file << " of " << a << " and " << b;
    }
  }

  Context context_;
  dataset::Embeddings embeddings_;
  dataset::Split split_;
};

std::vector<TrainOptions> variants() {
  std::vector<TrainOptions> list{
      {.hidden = 6, .epochs = 8, .standardize = true},
      {.hidden = 6, .epochs = 8, .batch_pairs = 17, .schedule = Schedule::cosine, .warmup = 5, .seed = 2},
      {.hidden = 0, .epochs = 8, .batch_pairs = 30, .schedule = Schedule::linear},
      {.hidden = 6, .epochs = 8, .batch_pairs = 17, .standardize = true, .patience = 2},
  };
  list.back().optimizer.learning_rate = 0.05;
  return list;
}

TEST_F(RunTest, ResumesBitForBitAfterAnyEpoch) {
  for (size_t i = 0; i < variants().size(); ++i) {
    const std::string whole = "whole" + std::to_string(i);
    train(whole, variants()[i], End::finish);
    const std::string lines = contents_of(path(whole) / "metrics.jsonl");
    const auto epochs = std::count(lines.begin(), lines.end(), '\n');
    ASSERT_GE(epochs, 4);
    for (int64_t epoch = 1; epoch < epochs; ++epoch) {
      const std::string name = std::to_string(i) + "-" + std::to_string(epoch);
      train("interrupted" + name, variants()[i], End::interrupt, epoch);
      train("interrupted" + name, variants()[i], End::finish);
      expect_same("interrupted" + name, whole);
      train("killed" + name, variants()[i], End::kill, epoch);
      train("killed" + name, variants()[i], End::finish);
      expect_same("killed" + name, whole);
    }
  }
}

TEST_F(RunTest, ResumesAgainAndAgain) {
  train("whole", variants()[1], End::finish);
  for (int64_t epoch = 1; epoch < 8; ++epoch) train("run", variants()[1], End::interrupt, epoch);
  train("run", variants()[1], End::finish);
  expect_same("run", "whole");
}

TEST_F(RunTest, CutsMetricsBackToTheCheckpoint) {
  train("whole", variants()[0], End::finish);
  train("run", variants()[0], End::kill, 5);  // the checkpoint is of epoch 3
  std::ofstream(path("run") / "metrics.jsonl", std::ios::app) << "{\"epoch\":6,\"st";
  train("run", variants()[0], End::finish);
  expect_same("run", "whole");
}

TEST_F(RunTest, MetricsShorterThanTheCheckpointAreRefused) {
  train("run", variants()[0], End::interrupt, 3);
  std::filesystem::resize_file(path("run") / "metrics.jsonl", 20);
  EXPECT_EQ(error_of([&] { train("run", variants()[0], End::finish); }),
            "run/metrics.jsonl: has 0 whole lines, but the checkpoint is at epoch 3");
}

TEST_F(RunTest, FinishedRunsResumeToTheSame) {
  train("whole", variants()[3], End::finish);
  train("run", variants()[3], End::finish);
  train("run", variants()[3], End::finish);
  expect_same("run", "whole");
}

TEST_F(RunTest, ConstantSchedulesCanBeProlongedAndOthersCannot) {
  TrainOptions longer = variants()[0];
  longer.epochs = 11;
  train("whole", longer, End::finish);
  train("run", variants()[0], End::finish);
  train("run", longer, End::finish);
  expect_same("run", "whole");

  train("cosine", variants()[1], End::interrupt, 2);
  longer = variants()[1];
  longer.epochs = 11;
  EXPECT_EQ(error_of([&] { train("cosine", longer, End::finish); }),
            "--epochs is 11, but the checkpoint was made with 8");
}

TEST_F(RunTest, OtherOptionsOrDataAreRefused) {
  train("run", variants()[0], End::interrupt, 4);
  const auto refused = [&](const TrainOptions& options) {
    return error_of([&] { train("run", options, End::finish); });
  };
  TrainOptions options = variants()[0];
  options.optimizer.learning_rate = 0.25;
  EXPECT_EQ(refused(options), "--learning-rate is 0.25, but the checkpoint was made with 0.001");
  options = variants()[0];
  options.hidden = 7;
  EXPECT_EQ(refused(options), "--hidden is 7, but the checkpoint was made with 6");
  options = variants()[0];
  options.epochs = 3;
  EXPECT_EQ(refused(options), "--epochs is 3, but the checkpoint is at epoch 4");
  options = variants()[0];
  options.schedule = Schedule::linear;
  EXPECT_EQ(refused(options), "--epochs is 8, but the checkpoint was made with not set");
  std::swap(split_.train.chosen[3], split_.train.rejected[3]);
  EXPECT_EQ(refused(variants()[0]), "the training pairs or their embeddings are not those of the checkpoint");
}

TEST_F(RunTest, OtherHeldOutDataAreRefusedWhereTheyDecideTheEnd) {
  train("patient", variants()[3], End::interrupt, 2);
  train("run", variants()[0], End::interrupt, 2);
  std::swap(split_.held_out.chosen[3], split_.held_out.rejected[3]);
  EXPECT_EQ(error_of([&] { train("patient", variants()[3], End::finish); }),
            "the held-out pairs or their embeddings are not those of the checkpoint");
  TrainOptions impatient = variants()[3];
  impatient.patience = 0;
  EXPECT_EQ(error_of([&] { train("patient", impatient, End::finish); }),
            "--patience is 0, but the checkpoint was made with 2");
  train("run", variants()[0], End::finish);
}

TEST_F(RunTest, TensorsOfAnotherShapeAreRefused) {
  Trainer trainer(context_, embeddings_, split_, variants()[3]);
  trainer.run_epoch();
  const Checkpoint checkpoint = trainer.checkpoint();
  const auto refused = [&](auto tensors) {
    Checkpoint other = checkpoint;
    other.*tensors = Head(Sample::kColumns, 7);
    return error_of([&] { trainer.restore(other); });
  };
  const std::string message = "the checkpoint's tensors are not of the shape that its options say";
  EXPECT_EQ(refused(&Checkpoint::parameters), message);
  EXPECT_EQ(refused(&Checkpoint::second_moments), message);
  EXPECT_EQ(refused(&Checkpoint::best), message);
}

TEST_F(RunTest, AnOldReportGoesWhenTrainingGoesOn) {
  train("run", variants()[0], End::finish);
  write("run/report.json", "old");
  train("run", variants()[0], End::finish);  // nothing is left to train
  EXPECT_TRUE(std::filesystem::exists(path("run/report.json")));
  TrainOptions longer = variants()[0];
  longer.epochs = 11;
  train("run", longer, End::interrupt, 9);
  EXPECT_FALSE(std::filesystem::exists(path("run/report.json")));
}

TEST_F(RunTest, OtherFilesAreNoCheckpoints) {
  train("run", variants()[0], End::finish);
  const auto file = path("run") / "checkpoint.safetensors";
  const std::string whole = contents_of(file);
  write("cut", whole.substr(0, whole.size() - 1));
  EXPECT_NE(error_of([&] { load_checkpoint(path("cut")); }), "no error");
  EXPECT_EQ(error_of([&] { load_checkpoint(path("run") / "model.safetensors"); }),
            "run/model.safetensors: has neither a tensor 'parameters.weight' (a linear head) nor "
            "'parameters.0.weight' (an MLP head)");
  auto contents = dataset::read_safetensors(file);
  contents.metadata["epoch"] = "-1";
  dataset::write_safetensors(path("bad"), contents);
  EXPECT_EQ(error_of([&] { load_checkpoint(path("bad")); }),
            "bad: its metadata have 'epoch' = '-1', where a number of at least 0 is expected");
  contents.metadata.erase("epoch");
  dataset::write_safetensors(path("bad"), contents);
  EXPECT_EQ(error_of([&] { load_checkpoint(path("bad")); }), "bad: is not a checkpoint, its metadata have no 'epoch'");
}

TEST_F(RunTest, AFolderBelongsToOneRun) {
  EXPECT_EQ(error_of([&] { RunFolder::resume(path("nothing")); }),
            "nothing: cannot be opened as a folder: No such file or directory");
  const RunFolder folder = RunFolder::create(path("run"));
  EXPECT_EQ(error_of([&] { RunFolder::create(path("run")); }), "run: another process is training into it");
  EXPECT_EQ(error_of([&] { RunFolder::resume(path("other")); }),
            "other: cannot be opened as a folder: No such file or directory");
  std::filesystem::create_directories(path("empty"));
  EXPECT_EQ(error_of([&] { RunFolder::resume(path("empty")); }),
            "empty: holds no run to resume (it has no config.toml)");
  EXPECT_EQ(error_of([&] { RunFolder::create(path("empty")); }), "no error");
  for (const char* name : {"config.toml", "model.safetensors", "metrics.jsonl", "report.json"}) {
    std::filesystem::create_directories(path("full"));
    write(std::string("full/") + name, "");
    EXPECT_EQ(
        error_of([&] { RunFolder::create(path("full")); }),
        std::string("full: holds a run already (") + name + "); name another --out, or continue it with --resume");
    std::filesystem::remove_all(path("full"));
  }
}

TEST_F(RunTest, RemovesWhatAKilledProcessLeft) {
  train("run", variants()[0], End::interrupt, 2);
  write("run/checkpoint.safetensors.tmp-123", "half");
  write("run/mine.tmp-123", "somebody's");
  train("run", variants()[0], End::finish);
  EXPECT_FALSE(std::filesystem::exists(path("run/checkpoint.safetensors.tmp-123")));
  EXPECT_TRUE(std::filesystem::exists(path("run/mine.tmp-123")));

  std::filesystem::create_directories(path("killed"));  // before its options were there
  write("killed/config.toml.tmp-7", "half");
  RunFolder::create(path("killed"));
  EXPECT_TRUE(std::filesystem::is_empty(path("killed")));
}

}  // namespace
}  // namespace rewardhead::training
