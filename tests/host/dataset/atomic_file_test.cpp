// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/atomic_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include "tests/host/dataset/files.h"

namespace rewardhead::dataset {
namespace {

class AtomicFile : public FileTest {
 protected:
  int files_in_folder() const {
    return static_cast<int>(std::distance(std::filesystem::directory_iterator(folder_), {}));
  }
};

TEST_F(AtomicFile, WritesAndReplaces) {
  const std::string binary("a\0b\n", 4);
  write_atomically(path("file"), binary);
  EXPECT_EQ(contents_of(path("file")), binary);
  write_atomically(path("file"), "");
  EXPECT_EQ(contents_of(path("file")), "");
  EXPECT_EQ(files_in_folder(), 1);
}

TEST_F(AtomicFile, HasThePermissionsOfAnOrdinaryFile) {
  const mode_t old = ::umask(0027);
  write_atomically(path("file"), "x");
  ::umask(old);
  struct stat status {};
  ASSERT_EQ(::stat(path("file").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640u);
}

TEST_F(AtomicFile, WritesInTheWorkingFolder) {
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder_);
  write_atomically("file", "x");
  std::filesystem::current_path(before);
  EXPECT_EQ(contents_of(path("file")), "x");
}

TEST_F(AtomicFile, TakesTheLeftoverOfAKilledProcessWithItsNumber) {
  write("file.tmp-" + std::to_string(::getpid()), "half");
  write_atomically(path("file"), "whole");
  EXPECT_EQ(contents_of(path("file")), "whole");
  EXPECT_EQ(files_in_folder(), 1);
}

TEST_F(AtomicFile, RemovesTheLeftoversOfOneFile) {
  for (const char* name : {"file", "file.tmp-1", "file.tmp-23", "other.tmp-1"}) write(name, "x");
  remove_leftovers(path("file"));
  EXPECT_TRUE(std::filesystem::exists(path("file")));
  EXPECT_TRUE(std::filesystem::exists(path("other.tmp-1")));
  EXPECT_EQ(files_in_folder(), 2);
}

// A limit on file sizes stands for a full disk: both make write() come back early.
TEST_F(AtomicFile, KeepsTheOldFileWhenTheDiskIsFull) {
  write("file", "old");
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{1000, before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = error_of([&] { write_atomically(path("file"), std::string(5000, 'x')); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(message, "file: cannot be written: File too large");
  EXPECT_EQ(contents_of(path("file")), "old");
  EXPECT_EQ(files_in_folder(), 1);
}

TEST_F(AtomicFile, RefusesAMissingFolderAndAFolder) {
  EXPECT_EQ(error_of([&] { write_atomically(path("none/file"), "x"); }),
            "none/file: cannot be written: No such file or directory");
  std::filesystem::create_directory(path("folder"));
  EXPECT_EQ(error_of([&] { write_atomically(path("folder"), "x"); }), "folder: cannot be written: Is a directory");
  EXPECT_EQ(files_in_folder(), 1);
}

}  // namespace
}  // namespace rewardhead::dataset
