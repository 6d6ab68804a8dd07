// SPDX-License-Identifier: Apache-2.0
#include "host/runtime/cublaslt.h"

#include <dlfcn.h>

#include <string>
#include <type_traits>

#include "host/runtime/error.h"

namespace rewardhead::runtime {
namespace {

namespace cublaslt = kernels::cuda::cublaslt;

constexpr const char* kFile = "libcublasLt.so.13";
constexpr size_t kOldest = 120000;  // 12.0, as cublasLtGetVersion says it

[[noreturn]] void unusable(const std::string& why) { throw ApiError(RH_UNSUPPORTED, "cuBLASLt: " + why); }

// Whether `library` has all of them; else `missing` is the first that it has not.
bool find(void* library, cublaslt::Functions& functions, const char*& missing) {
  missing = nullptr;
  cublaslt::for_each_function(functions, [&](const char* name, auto& function) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    if (!function && !missing) missing = name;
  });
  return !missing;
}

}  // namespace

std::shared_ptr<const cublaslt::Library> open_cublaslt() {
  auto library = std::make_unique<cublaslt::Library>();
  const char* missing = nullptr;
  // The file stays open: CUDA does not like to be unloaded.
  if (!find(RTLD_DEFAULT, library->call, missing)) {
    void* const file = dlopen(kFile, RTLD_NOW | RTLD_LOCAL);
    if (!file) {
      const char* const why = dlerror();
      unusable(std::string(kFile) + " was not found by the dynamic linker" +
               (why ? std::string(" (") + why + ')' : "") +
               "; it is part of CUDA 13 and of the Python package nvidia-cublas");
    }
    if (!find(file, library->call, missing)) unusable(std::string(kFile) + " has no " + missing);
  }
  if (const size_t version = library->call.get_version(); version < kOldest) {
    unusable("the process has version " + std::to_string(version) + "; 12.0 (" + std::to_string(kOldest) +
             ") or later is needed");
  }
  if (const int status = library->call.create(&library->handle)) {
    unusable("cublasLtCreate returned status " + std::to_string(status));
  }
  return {library.release(), [](const cublaslt::Library* opened) {
            opened->call.destroy(opened->handle);
            delete opened;
          }};
}

}  // namespace rewardhead::runtime
