// SPDX-License-Identifier: Apache-2.0
//
// kernel_tests --isa NAME (or REWARDHEAD_TEST_ISA): the kernel tests on one implementation.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "host/runtime/dispatch.h"
#include "tests/kernels/testing.h"

namespace rewardhead::kernels::testing {
namespace {

const Implementation* chosen = nullptr;

}  // namespace

const std::vector<Implementation>& implementations() {
  static const std::vector<Implementation> list = [] {
    std::vector<Implementation> all;
    for (const runtime::Implementation& row : runtime::implementations()) {
      all.push_back({row.name, row.needs, row.usable(), row.table});
      if (row.name == std::string_view("portable")) {
        all.push_back({"portable-lists", row.needs, row.usable(), portable_lists_table});
        all.push_back({"portable-plain", row.needs, row.usable(), portable_plain_table});
      }
#if REWARDHEAD_SIMDE
      if (row.name == std::string_view("avx2")) {
        all.push_back({"avx512-simde", "AVX2, FMA, F16C, BMI2 (AVX-512 through SIMDe)", row.usable(), avx512_simde_table});
      }
#endif
    }
    return all;
  }();
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
  std::printf("%s: needs %s%s\n", chosen->name, chosen->needs, chosen->usable ? "" : ", which this processor lacks");
  return RUN_ALL_TESTS();
}
