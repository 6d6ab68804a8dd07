// SPDX-License-Identifier: Apache-2.0
#include "host/cli/config.h"

#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <sstream>
#include <string_view>

#include "host/cli/option.h"
#include "host/dataset/error.h"
#include "host/dataset/mapped_file.h"
#include "host/training/options.h"

namespace rewardhead::cli {
namespace {

// What belongs to one call and not to what it computes.
bool is_of_the_call(const std::string& name) {
  constexpr std::array<std::string_view, 5> kNames{"help", "config", "resume", "out", "json"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

std::string text_of(const std::string& name, const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* integer = node.as_integer()) return std::to_string(integer->get());
  if (const auto* number = node.as_floating_point()) return training::shortest(number->get());
  if (const auto* flag = node.as_boolean()) return flag->get() ? "true" : "false";
  usage_error("--" + name, "the file of options has neither a string, a number nor a boolean for it");
}

template <class Number>
Number parsed(const std::string& text) {  // of an option that has been read, so it is a number
  Number number{};
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

}  // namespace

void read_config(CLI::App& app, const std::filesystem::path& file) {
  const dataset::MappedFile contents(file);
  toml::table table;
  try {
    table = toml::parse(contents.bytes(), file.string());
  } catch (const toml::parse_error& error) {
    std::ostringstream line;
    line << error.source().begin.line;
    throw InputError(file.string() + ", line " + line.str() + ": " + std::string(error.description()));
  }
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    CLI::Option* option = is_of_the_call(name) ? nullptr : app.get_option_no_throw("--" + name);
    if (option == nullptr) usage_error("--config", file.string() + " has the unknown option '" + name + "'");
    if (option->count() > 0) continue;
    option->add_result(text_of(name, node));
    option->run_callback();
  }
}

std::string write_config(const CLI::App& app) {
  toml::table table;
  for (const CLI::Option* option : app.get_options()) {
    const std::string name = option->get_single_name(), type = option->get_type_name();
    if (is_of_the_call(name) || (option->count() == 0 && option->get_group() != kTrainingGroup)) continue;
    const std::string text = option->count() > 0 ? option->results().back() : option->get_default_str();
    if (type == kInteger) {
      table.insert(name, parsed<int64_t>(text));
    } else if (type == kNumber) {
      table.insert(name, parsed<double>(text));
    } else if (type == kFile) {
      table.insert(name, std::filesystem::absolute(text).lexically_normal().string());
    } else if (option->get_items_expected_max() == 0) {
      table.insert(name, option->count() > 0 && option->as<bool>());
    } else {
      table.insert(name, text);
    }
  }
  std::ostringstream stream;
  stream << table << "\n";
  return stream.str();
}

}  // namespace rewardhead::cli
