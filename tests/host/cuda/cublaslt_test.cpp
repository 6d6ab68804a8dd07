// SPDX-License-Identifier: Apache-2.0
#include "host/runtime/cublaslt.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <string>

#include "host/runtime/error.h"

namespace rewardhead::runtime {
namespace {

std::string failure() {
  try {
    open_cublaslt();
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status(), RH_UNSUPPORTED);
    return error.what();
  }
  return "opened";
}

// Only what the dynamic linker finds; a library that is loaded already is found under its name.
TEST(CublasLtLibrary, SaysWhatIsMissing) {
  if (void* const real = dlopen("libcublasLt.so.13", RTLD_NOW)) {
    dlclose(real);
    GTEST_SKIP() << "this machine has libcublasLt.so.13";
  }
  const std::string absent = failure();
  EXPECT_NE(absent.find("libcublasLt.so.13 was not found by the dynamic linker"), std::string::npos) << absent;
  ASSERT_NE(dlopen(FOLDER "/libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL), nullptr) << dlerror();
  EXPECT_EQ(failure(), "cuBLASLt: libcublasLt.so.13 has no cublasLtCreate");
}

}  // namespace
}  // namespace rewardhead::runtime
