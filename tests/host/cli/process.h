// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/host/dataset/files.h"
#include "tests/host/sample.h"

extern char** environ;

namespace rewardhead::cli {

using dataset::contents_of;

struct Result {
  int exit_code;  // 128 + signal where one ended the process
  std::string out, err;
};

// The built program, running; its output goes to files, so that it never waits for a reader.
class Process {
 public:
  Process(std::vector<std::string> arguments, std::filesystem::path out, std::filesystem::path err)
      : out_(std::move(out)), err_(std::move(err)) {
    arguments.insert(arguments.begin(), PROGRAM);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, out_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    posix_spawn_file_actions_addopen(&actions, 2, err_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (posix_spawn(&pid_, PROGRAM, &actions, nullptr, argv.data(), environ) != 0) pid_ = -1;
    posix_spawn_file_actions_destroy(&actions);
    EXPECT_GT(pid_, 0) << PROGRAM << " cannot be run";
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    if (pid_ > 0) signal(SIGKILL), wait();
  }

  void signal(int number) const { ::kill(pid_, number); }
  Result wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
            std::filesystem::is_regular_file(out_) ? contents_of(out_) : "", contents_of(err_)};
  }

 private:
  pid_t pid_ = -1;
  std::filesystem::path out_, err_;
};

// Runs the program on the sample of sample.h.
class CliTest : public dataset::FileTest {
 protected:
  using Arguments = std::vector<std::string>;
  CliTest() : sample_(write_sample(folder_)) {}

  Result run(const Arguments& arguments) const { return Process(arguments, path("stdout"), path("stderr")).wait(); }

  static Arguments joined(Arguments arguments, const Arguments& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  Arguments data() const {
    return {"--embeddings", sample_.embeddings_file, "--pairs", sample_.pairs_file, "--items", sample_.items_file};
  }
  // A small training run into the folder `name`.
  Arguments train(const std::string& name, const Arguments& more = {}) const {
    return joined(joined({"train", "--out", path(name), "--hidden", "6", "--threads", "1"}, data()), more);
  }
  // ... that lasts about a second, an epoch about a millisecond.
  Arguments long_train(const std::string& name, const Arguments& more = {}) const {
    return train(name, joined({"--epochs", "400", "--batch-pairs", "5", "--group-column", "topic", "--folds", "3",
                               "--fold", "1", "--standardize"},
                              more));
  }
  void expect_same_run(const std::string& a, const std::string& b) const {
    for (const char* file : {"model.safetensors", "metrics.jsonl", "report.json", "checkpoint.safetensors"}) {
      EXPECT_FALSE(contents_of(path(a) / file).empty()) << file;
      EXPECT_EQ(contents_of(path(a) / file), contents_of(path(b) / file)) << file;
    }
  }

  Sample sample_;
};

}  // namespace rewardhead::cli
