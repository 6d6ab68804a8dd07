// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>

#include "host/dataset/error.h"

namespace rewardhead::dataset {
namespace {

// What the number of the writing process follows in the name of a half-written file.
std::string temporary_prefix(const std::filesystem::path& file) { return file.string() + ".tmp-"; }

int create(const std::string& path) {
  return ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);  // less the umask
}

// 0 or the errno of what failed.
int write_and_sync(int descriptor, std::string_view contents) {
  while (!contents.empty()) {
    const ssize_t written = ::write(descriptor, contents.data(), contents.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    contents.remove_prefix(static_cast<size_t>(written));
  }
  return ::fsync(descriptor) == 0 ? 0 : errno;
}

// 0 or the errno of what failed. The rename is durable only once the folder that holds the name is synced.
int sync_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return errno;
  int error = ::fsync(descriptor) == 0 ? 0 : errno;
  if (error == EINVAL) error = 0;  // a file system that cannot sync folders
  ::close(descriptor);
  return error;
}

}  // namespace

void write_atomically(const std::filesystem::path& file, std::string_view contents) {
  const std::string temporary = temporary_prefix(file) + std::to_string(::getpid());
  int descriptor = create(temporary);
  if (descriptor < 0 && errno == EEXIST) {  // left by a killed process that had our number
    ::unlink(temporary.c_str());
    descriptor = create(temporary);
  }
  int error = descriptor < 0 ? errno : 0;
  if (error == 0) {
    error = write_and_sync(descriptor, contents);
    if (::close(descriptor) != 0 && error == 0) error = errno;
    if (error == 0 && std::rename(temporary.c_str(), file.c_str()) != 0) error = errno;
    if (error != 0) ::unlink(temporary.c_str());
  }
  if (error == 0) error = sync_folder(file.parent_path());
  if (error != 0) throw InputError(file.string() + ": cannot be written: " + std::generic_category().message(error));
}

void remove_leftovers(const std::filesystem::path& file) {
  const std::filesystem::path folder = file.parent_path();
  for (const auto& entry : std::filesystem::directory_iterator(folder.empty() ? "." : folder)) {
    if (entry.path().filename().string().starts_with(temporary_prefix(file.filename()))) {
      std::filesystem::remove(entry.path());
    }
  }
}

}  // namespace rewardhead::dataset
