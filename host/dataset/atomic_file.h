// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string_view>

namespace rewardhead::dataset {

// Replaces `file` by `contents`: writes FILE.tmp-PID beside it, syncs, renames, and syncs the folder, so that a reader
// (or a crash at any moment) sees the old file or the new one, whole. Throws InputError with the system's reason, and
// leaves the old file as it was.
void write_atomically(const std::filesystem::path& file, std::string_view contents);

// Removes what killed processes left half written beside `file`. Nobody may be writing it.
void remove_leftovers(const std::filesystem::path& file);

}  // namespace rewardhead::dataset
