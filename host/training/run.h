// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <filesystem>
#include <functional>

#include "host/training/trainer.h"

namespace rewardhead::training {

// The folder that a run writes, locked for as long as the object lives, so that no other process trains into it. Taking
// it removes what a killed process left half written.
class RunFolder {
 public:
  // Makes the folder. Throws InputError where it holds a run already, or is locked.
  static RunFolder create(const std::filesystem::path& folder);
  // Throws InputError where it holds no run, or is locked.
  static RunFolder resume(const std::filesystem::path& folder);
  RunFolder(RunFolder&& other) noexcept;
  RunFolder& operator=(RunFolder&&) = delete;
  ~RunFolder();

  // After a failure: where create() began this run and no checkpoint was saved yet, removes the run's files, and the
  // folder if create() made it, so that the same --out can be used again.
  void discard_unsaved() const;

  std::filesystem::path config() const { return folder_ / "config.toml"; }
  std::filesystem::path checkpoint() const { return folder_ / "checkpoint.safetensors"; }
  std::filesystem::path metrics() const { return folder_ / "metrics.jsonl"; }
  std::filesystem::path model() const { return folder_ / "model.safetensors"; }
  std::filesystem::path report() const { return folder_ / "report.json"; }

 private:
  explicit RunFolder(const std::filesystem::path& folder);
  std::array<std::filesystem::path, 5> files() const { return {config(), checkpoint(), metrics(), model(), report()}; }

  std::filesystem::path folder_;
  int lock_;
  bool created_ = false;  // by create(), so that all of files() are this object's
  bool made_ = false;     // the folder did not exist
};

// Trains until the trainer is finished, or until `stop` is set and the epoch is done. Appends a line to metrics.jsonl
// after each epoch, then calls `progress`; writes the checkpoint every `checkpoint_every` epochs (0: never in between)
// and at the end, then the model; an old report.json goes before training goes on. A process killed at any moment
// leaves the previous checkpoint or the next, and metrics up to it or beyond, which resuming cuts back. Returns whether
// the trainer finished.
bool run(Trainer& trainer, const RunFolder& folder, int64_t checkpoint_every, const std::atomic<bool>& stop,
         const std::function<void(const EpochRecord&)>& progress);

}  // namespace rewardhead::training
