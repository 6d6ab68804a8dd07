// SPDX-License-Identifier: Apache-2.0
#include "host/cli/option.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "host/training/options.h"

namespace rewardhead::cli {
namespace {

template <class Number>
bool parse(const std::string& text, Number& number) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc{} && stop == end;
}

}  // namespace

CLI::Option* add_integer(CLI::App& app, const std::string& name, int64_t& target, int64_t least, int64_t most,
                         const std::string& help) {
  const auto read = [name, &target, least, most](const std::string& text) {
    int64_t value = 0;
    if (!parse(text, value) || value < least || value > most) {
      usage_error(name,
                  "'" + text + "' is not a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    }
    target = value;
  };
  return app.add_option_function<std::string>(name, read, help)
      ->type_name(kInteger)
      ->default_str(std::to_string(target));
}

CLI::Option* add_number(CLI::App& app, const std::string& name, double& target, double least, const std::string& help,
                        double below) {
  const auto read = [name, &target, least, below](const std::string& text) {
    double value = 0;
    if (!parse(text, value) || !std::isfinite(value) || value < least || value >= below) {
      usage_error(name, "'" + text + "' is not a decimal number of at least " + training::shortest(least) +
                            (std::isfinite(below) ? " and less than " + training::shortest(below) : ""));
    }
    target = value;
  };
  return app.add_option_function<std::string>(name, read, help)
      ->type_name(kNumber)
      ->default_str(training::shortest(target));
}

CLI::Option* add_word(CLI::App& app, const std::string& name, int& target, const std::vector<std::string>& words,
                      const std::string& help) {
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "" : "|") + word;
  const auto read = [name, &target, words, list](const std::string& text) {
    const auto found = std::find(words.begin(), words.end(), text);
    if (found == words.end()) usage_error(name, "'" + text + "' is not one of " + list);
    target = static_cast<int>(found - words.begin());
  };
  return app.add_option_function<std::string>(name, read, help)
      ->type_name(words.size() > 1 ? list : "WORD")  // the default shows the only one
      ->default_str(words[static_cast<size_t>(target)]);
}

CLI::Option* add_file(CLI::App& app, const std::string& name, std::string& target, const std::string& help,
                      const char* kind) {
  const auto read = [name, &target](const std::string& text) {
    if (text.empty()) usage_error(name, "is empty, where a name is expected");
    target = text;
  };
  return app.add_option_function<std::string>(name, read, help)->type_name(kind);
}

CLI::Option* add_text(CLI::App& app, const std::string& name, std::string& target, const std::string& help) {
  return app.add_option(name, target, help)->type_name(kText)->default_str(target);
}

bool given(const CLI::App& app, const std::string& name) { return app.get_option(name)->count() > 0; }

void usage_error(const std::string& name, const std::string& message) { throw CLI::ValidationError(name, message); }

void require(const CLI::App& app, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (!given(app, name)) usage_error(name, "is required");
  }
}

void require_with(const CLI::App& app, const char* name, const char* needed) {
  if (given(app, name) && !given(app, needed)) usage_error(name, std::string("needs ") + needed);
}

void exclude(const CLI::App& app, const char* name, const char* other) {
  if (given(app, name) && given(app, other)) usage_error(name, std::string("cannot be used together with ") + other);
}

std::vector<std::string> names_of(const char* (*name)(int)) {
  std::vector<std::string> names;
  for (int i = 0; name(i) != nullptr; ++i) names.emplace_back(name(i));
  return names;
}

}  // namespace rewardhead::cli
