// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "host/dataset/error.h"

namespace rewardhead::dataset {
namespace {

[[noreturn]] void fail(const std::filesystem::path& file, int error) {
  throw InputError(file.string() + ": cannot be read: " + std::generic_category().message(error));
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& file) {
  // O_NONBLOCK: opening a named pipe must end in the message below, not in waiting for a writer.
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) fail(file, errno);
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) {
    const int error = errno;
    ::close(descriptor);
    fail(file, error);
  }
  if (!S_ISREG(status.st_mode)) {
    ::close(descriptor);
    throw InputError(file.string() + (S_ISDIR(status.st_mode) ? ": is a directory" : ": is not a regular file") +
                     "; expected a regular file");
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ > 0) {  // mmap refuses a length of 0
    data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (data_ == MAP_FAILED) {
      const int error = errno;
      ::close(descriptor);
      fail(file, error);
    }
  }
  ::close(descriptor);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

}  // namespace rewardhead::dataset
