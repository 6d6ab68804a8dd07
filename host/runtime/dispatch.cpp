// SPDX-License-Identifier: Apache-2.0
#include "host/runtime/dispatch.h"

#include "host/runtime/error.h"

#if REWARDHEAD_X86
#include <cpuid.h>
#endif

namespace rewardhead::runtime {
namespace {

bool always() { return true; }

#if REWARDHEAD_X86
// Clang 14's __builtin_cpu_supports does not know F16C.
bool has_f16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C) != 0;
}
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
         has_f16c();
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

// What can be asked for on this machine.
std::string usable_names() {
  std::string names = "auto";
  for (const Implementation& row : implementations()) {
    if (row.usable()) names += std::string(", ") + row.name;
  }
  return names;
}

}  // namespace

const std::vector<Implementation>& implementations() {
  static const std::vector<Implementation> list = {
#if REWARDHEAD_X86
    {"avx512", "AVX-512 F, BW, DQ, VL, AVX2, FMA, F16C, BMI2", has_avx512, kernels::avx512_table},
    {"avx2", "AVX2, FMA, F16C, BMI2", has_avx2, kernels::avx2_table},
#endif
    {"portable", "nothing", always, kernels::portable_table},
    {"reference", "nothing", always, kernels::reference_table},
  };
  return list;
}

const std::vector<const char*>& isa_names() {
  static const std::vector<const char*> names = [] {
    std::vector<const char*> all = {"auto"};
    for (const Implementation& row : implementations()) all.push_back(row.name);
    return all;
  }();
  return names;
}

const Implementation& choose_implementation(const std::string& isa, const std::string& origin) {
  for (const Implementation& row : implementations()) {
    if (isa == "auto" && row.usable()) return row;
    if (isa != row.name) continue;
    if (row.usable()) return row;
    throw ApiError(RH_UNSUPPORTED, origin + " is \"" + isa + "\", which needs " + row.needs +
                                       "; this processor lacks it. Choose another of " + usable_names());
  }
  throw ApiError(RH_INVALID_ARGUMENT, origin + " is \"" + isa + "\"; expected one of " + usable_names());
}

}  // namespace rewardhead::runtime
