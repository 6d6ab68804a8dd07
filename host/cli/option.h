// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <vector>

namespace rewardhead::cli {

// The kinds of values, as --help shows them; config.cpp reads them back.
inline constexpr const char* kInteger = "INTEGER";
inline constexpr const char* kNumber = "NUMBER";
inline constexpr const char* kFile = "FILE";
inline constexpr const char* kFolder = "FOLDER";
inline constexpr const char* kText = "TEXT";

// The part of --help with the options that decide what is trained; a run records all of them.
inline constexpr const char* kTrainingGroup = "Training";

// Options whose value must be a decimal number in a range: no sign +, no base prefix, no NaN, no text behind. Anything
// else is a usage error that names the option. The value that `target` has is the default.
CLI::Option* add_integer(CLI::App& app, const std::string& name, int64_t& target, int64_t least, int64_t most,
                         const std::string& help);
CLI::Option* add_number(CLI::App& app, const std::string& name, double& target, double least, const std::string& help,
                        double below = std::numeric_limits<double>::infinity());
// One of `words`; `target` is its index.
CLI::Option* add_word(CLI::App& app, const std::string& name, int& target, const std::vector<std::string>& words,
                      const std::string& help);
// The name of a file or folder (`kind` is kFile or kFolder); an empty one is a usage error.
CLI::Option* add_file(CLI::App& app, const std::string& name, std::string& target, const std::string& help,
                      const char* kind = kFile);
CLI::Option* add_text(CLI::App& app, const std::string& name, std::string& target, const std::string& help);

// Whether the command line, or a file of options, gave it.
bool given(const CLI::App& app, const std::string& name);

// Usage errors. The first names one option; the others check a rule: all of `names` are there; `name` comes only
// together with `needed`; not both are there.
[[noreturn]] void usage_error(const std::string& name, const std::string& message);
void require(const CLI::App& app, std::initializer_list<const char*> names);
void require_with(const CLI::App& app, const char* name, const char* needed);
void exclude(const CLI::App& app, const char* name, const char* other);

// The names that a function of rewardhead.h lists.
std::vector<std::string> names_of(const char* (*name)(int));

}  // namespace rewardhead::cli
