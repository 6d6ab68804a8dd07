// SPDX-License-Identifier: Apache-2.0
//
// kernel_tests --isa NAME (or REWARDHEAD_TEST_ISA): the kernel tests on one implementation.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/kernels/testing.h"

namespace rewardhead::kernels::testing {
namespace {

const Implementation* chosen = nullptr;

}  // namespace

const std::vector<Implementation>& implementations() {
#if REWARDHEAD_X86
  static const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  static const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
  static const std::vector<Implementation> list = {
    {"reference", "plain loops in fp64", true, reference_table},
    {"portable", "GCC vectors", true, portable_table},
#if REWARDHEAD_X86
    {"avx2", "AVX2, FMA and F16C on the processor", avx2, avx2_table},
    {"avx512", "AVX-512 F, BW, DQ and VL on the processor", avx512, avx512_table},
#if REWARDHEAD_SIMDE
    {"avx512-simde", "AVX-512 through SIMDe on AVX2", avx2, avx512_simde_table},
#endif
#endif
  };
  return list;
}

const Implementation& under_test() { return *chosen; }

}  // namespace rewardhead::kernels::testing

int main(int argc, char** argv) {
  using namespace rewardhead::kernels::testing;
  ::testing::InitGoogleTest(&argc, argv);
  const char* variable = std::getenv("REWARDHEAD_TEST_ISA");
  std::string_view name = variable ? variable : "portable";
  if (argc == 3 && std::string_view(argv[1]) == "--isa") name = argv[2];
  for (const Implementation& row : implementations()) {
    if (name == row.name) chosen = &row;
  }
  if (!chosen || (argc != 1 && argc != 3)) {
    std::fprintf(stderr, "usage: kernel_tests [GoogleTest's options] [--isa NAME], NAME one of");
    for (const Implementation& row : implementations()) std::fprintf(stderr, " %s", row.name);
    std::fprintf(stderr, "\n");
    return 2;
  }
  std::printf("%s: %s%s\n", chosen->name, chosen->how, chosen->usable ? "" : " (this processor cannot)");
  return RUN_ALL_TESTS();
}
