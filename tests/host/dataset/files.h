// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "host/dataset/error.h"

namespace rewardhead::dataset {

// A folder of the test's own, removed at its end.
class FileTest : public testing::Test {
 protected:
  FileTest() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::path(testing::TempDir()) / (std::string("rewardhead-") + test->test_suite_name() + "-" +
                                                           test->name() + "-" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  ~FileTest() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path path(const std::string& name) const { return folder_ / name; }

  std::filesystem::path write(const std::string& name, const std::string& contents) const {
    std::filesystem::remove(path(name));  // some file systems sync a file that is cut to nothing and written again
    std::ofstream(path(name), std::ios::binary) << contents;
    return path(name);
  }

  // The message of the InputError that `call` throws, without the folder's name; "no error" if it throws none.
  template <class Call>
  std::string error_of(const Call& call) const {
    try {
      call();
    } catch (const InputError& error) {
      std::string message = error.what();
      const std::string folder = folder_.string() + "/";
      for (size_t at; (at = message.find(folder)) != std::string::npos;) message.erase(at, folder.size());
      return message;
    }
    return "no error";
  }

  std::filesystem::path folder_;
};

inline std::string contents_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

// The bytes of a little-endian value.
template <class Value>
std::string bytes_of(Value value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
template <class Value>
std::string bytes_of(const std::vector<Value>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value)};
}

// A .npy file of version 1 with this header, as it stands.
inline std::string npy(const std::string& header, const std::string& data) {
  return "\x93NUMPY" + std::string("\1\0", 2) + bytes_of(static_cast<uint16_t>(header.size())) + header + data;
}

// A .safetensors file with this header, as it stands.
inline std::string safetensors(const std::string& header, const std::string& data) {
  return bytes_of(static_cast<uint64_t>(header.size())) + header + data;
}

}  // namespace rewardhead::dataset
