// SPDX-License-Identifier: Apache-2.0
#include "host/training/run.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "host/dataset/atomic_file.h"
#include "host/dataset/error.h"
#include "host/training/model.h"

namespace rewardhead::training {
namespace {

namespace fs = std::filesystem;

InputError system_error(const fs::path& file, const char* action) {
  return InputError(file.string() + ": cannot be " + action + ": " + std::generic_category().message(errno));
}

// Where line `lines` of the file ends, in bytes. A line without its newline does not count.
int64_t end_of_line(const fs::path& file, int64_t lines) {
  std::ifstream stream(file, std::ios::binary);
  int64_t bytes = 0, found = 0;
  std::string line;
  while (found < lines && std::getline(stream, line) && !stream.eof()) {
    bytes += static_cast<int64_t>(line.size()) + 1;
    ++found;
  }
  if (found < lines) {
    throw InputError(file.string() + ": has " + std::to_string(found) +
                     " whole lines, but the checkpoint is at epoch " + std::to_string(lines));
  }
  return bytes;
}

class MetricsFile {
 public:
  // Keeps the first `epochs` lines.
  MetricsFile(const fs::path& file, int64_t epochs) : file_(file) {
    const int64_t bytes = end_of_line(file, epochs);
    descriptor_ = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (descriptor_ < 0) throw system_error(file, "opened");
    if (::ftruncate(descriptor_, bytes) != 0) fail("cut");
  }
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;
  ~MetricsFile() { ::close(descriptor_); }

  void append(const EpochRecord& record) {
    nlohmann::ordered_json json{{"epoch", record.epoch},
                                {"step", record.step},
                                {"learning_rate", record.learning_rate},
                                {"gradient_norm", record.gradient_norm},
                                {"loss", record.loss}};
    json["held_out_nll"] = record.held_out_nll ? nlohmann::ordered_json(*record.held_out_nll) : nullptr;
    json["held_out_accuracy"] = record.held_out_accuracy ? nlohmann::ordered_json(*record.held_out_accuracy) : nullptr;
    const std::string line = json.dump() + "\n";
    for (size_t written = 0; written < line.size();) {
      const ssize_t bytes = ::write(descriptor_, line.data() + written, line.size() - written);
      if (bytes < 0 && errno != EINTR) throw system_error(file_, "written");
      if (bytes > 0) written += static_cast<size_t>(bytes);
    }
  }

  void sync() {
    if (::fsync(descriptor_) != 0) throw system_error(file_, "written");
  }

 private:
  [[noreturn]] void fail(const char* action) {
    const InputError error = system_error(file_, action);
    ::close(descriptor_);
    throw error;
  }

  fs::path file_;
  int descriptor_;
};

}  // namespace

RunFolder::RunFolder(const fs::path& folder) : folder_(folder) {
  lock_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock_ < 0) throw system_error(folder, "opened as a folder");
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    const InputError error = errno == EWOULDBLOCK
                                 ? InputError(folder.string() + ": another process is training into it")
                                 : system_error(folder, "locked");
    ::close(lock_);
    throw error;
  }
  for (const fs::path& file : files()) dataset::remove_leftovers(file);
}

RunFolder::RunFolder(RunFolder&& other) noexcept
    : folder_(std::move(other.folder_)),
      lock_(std::exchange(other.lock_, -1)),
      created_(other.created_),
      made_(other.made_) {}

RunFolder::~RunFolder() {
  if (lock_ >= 0) ::close(lock_);
}

RunFolder RunFolder::create(const fs::path& folder) {
  std::error_code error;
  const bool existed = fs::exists(folder, error);
  fs::create_directories(folder, error);
  if (error) throw InputError(folder.string() + ": cannot be made: " + error.message());
  RunFolder run(folder);
  run.made_ = !existed;
  for (const fs::path& file : run.files()) {
    if (fs::exists(file)) {
      throw InputError(folder.string() + ": holds a run already (" + file.filename().string() +
                       "); name another --out, or continue it with --resume");
    }
  }
  run.created_ = true;
  return run;
}

RunFolder RunFolder::resume(const fs::path& folder) {
  RunFolder run(folder);
  if (!fs::exists(run.config())) {
    throw InputError(folder.string() + ": holds no run to resume (it has no config.toml)");
  }
  return run;
}

void RunFolder::discard_unsaved() const {
  std::error_code ignored;  // the failure that led here is what gets reported
  if (!created_ || fs::exists(checkpoint(), ignored)) return;
  for (const fs::path& file : files()) fs::remove(file, ignored);
  if (made_) fs::remove(folder_, ignored);  // fails where it holds something else
}

bool run(Trainer& trainer, const RunFolder& folder, int64_t checkpoint_every, const std::atomic<bool>& stop,
         const std::function<void(const EpochRecord&)>& progress) {
  MetricsFile metrics(folder.metrics(), trainer.epoch());
  if (!trainer.finished()) fs::remove(folder.report());  // it is about the model that will be replaced
  const auto save = [&] {
    metrics.sync();
    save_checkpoint(folder.checkpoint(), trainer.checkpoint());
  };
  bool saved = false;
  while (!trainer.finished() && !stop) {
    const EpochRecord record = trainer.run_epoch();
    metrics.append(record);
    progress(record);
    saved = checkpoint_every > 0 && record.epoch % checkpoint_every == 0;
    if (saved) save();
  }
  if (!saved) save();
  save_model(folder.model(), trainer.model());
  return trainer.finished();
}

}  // namespace rewardhead::training
