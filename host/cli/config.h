// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

namespace rewardhead::cli {

// Gives `app` the options of a TOML file, `name = value` by the names of the command line without the dashes, except
// those that the command line gave already. An unknown name or an unusable value is a usage error; a file that cannot
// be read or is not TOML, an InputError. Relative paths are relative to the current folder, as on the command line.
void read_config(CLI::App& app, const std::filesystem::path& file);

// A file that repeats this call of `app`: the options given, files by their absolute paths, and those of the training
// group even where the default was taken; without those that say where the result goes.
std::string write_config(const CLI::App& app);

}  // namespace rewardhead::cli
