// SPDX-License-Identifier: Apache-2.0
#include "host/cli/rewards_file.h"

#include <array>
#include <bit>
#include <charconv>
#include <filesystem>

#include "host/cli/option.h"
#include "host/dataset/atomic_file.h"

namespace rewardhead::cli {
namespace {

static_assert(std::endian::native == std::endian::little, "rewards are written as they lie in memory");

std::string npy(std::span<const float> rewards) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(rewards.size()) + ",), }";
  constexpr size_t kPrefix = 10;  // magic, version, header length
  header.append(63 - (kPrefix + header.size()) % 64, ' ');
  header += '\n';
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(header.size() & 0xff);
  bytes += static_cast<char>(header.size() >> 8);
  bytes += header;
  return bytes.append(reinterpret_cast<const char*>(rewards.data()), rewards.size_bytes());
}

std::string quoted(const std::string& text) {  // as RFC 4180 says
  if (text.find_first_of(" ,\"\r\n\t") == std::string::npos) return text;
  std::string result = "\"";
  for (const char c : text) result.append(c == '"' ? 2 : 1, c);
  return result + '"';
}

}  // namespace

void check_rewards_file(const char* name, const std::string& file) {
  const std::filesystem::path extension = std::filesystem::path(file).extension();
  if (extension != ".npy" && extension != ".csv") usage_error(name, "'" + file + "' ends in neither .npy nor .csv");
}

std::string rewards_csv(std::span<const float> rewards, const std::vector<std::string>* ids) {
  std::string text = ids ? "row,id,reward\n" : "row,reward\n";
  for (size_t i = 0; i < rewards.size(); ++i) {
    std::array<char, 32> digits;
    const auto end =
        std::to_chars(digits.data(), digits.data() + digits.size(), rewards[i], std::chars_format::general, 9).ptr;
    text += std::to_string(i) + "," + (ids ? quoted((*ids)[i]) + "," : "");
    text.append(digits.data(), end) += '\n';
  }
  return text;
}

void write_rewards(const std::string& file, std::span<const float> rewards, const std::vector<std::string>* ids) {
  const bool is_npy = std::filesystem::path(file).extension() == ".npy";
  dataset::write_atomically(file, is_npy ? npy(rewards) : rewards_csv(rewards, ids));
}

}  // namespace rewardhead::cli
