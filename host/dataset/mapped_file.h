// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string_view>

namespace rewardhead::dataset {

// The bytes of a regular file, mapped read-only for the life of the object. The file must not shrink meanwhile.
class MappedFile {
 public:
  // Throws InputError naming the file where it is missing, unreadable, a directory or another special file.
  explicit MappedFile(const std::filesystem::path& file);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::string_view bytes() const { return {static_cast<const char*>(data_), size_}; }  // empty for an empty file

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace rewardhead::dataset
