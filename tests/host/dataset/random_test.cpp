// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace rewardhead {
namespace {

using Words = std::array<uint32_t, 4>;

// Random123, tests/kat_vectors, the lines "philox4x32 10".
TEST(Random, PhiloxGivesThePublishedVectors) {
  EXPECT_EQ(philox4x32_10({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32_10({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, WordsComeFromTheDocumentedBlocks) {
  Random random(0x1122334455667788, 0x99AABBCCDDEEFF00);
  for (uint32_t block = 0; block < 3; ++block) {
    for (const uint32_t word : philox4x32_10({block, 0, 0xDDEEFF00, 0x99AABBCC}, {0x55667788, 0x11223344})) {
      EXPECT_EQ(random.next(), word);
    }
  }
}

// Worked out by hand from the words of the first published vector.
TEST(Random, DrawsAreFormedAsDocumented) {
  EXPECT_EQ(Random(0).uniform(), ((0x6627e8d5u >> 5) * 67108864.0 + (0xe169c58du >> 6)) / 9007199254740992.0);
  const double u0 = ((0x6627e8d5u >> 5) * 67108864.0 + (0xe169c58du >> 6)) / 9007199254740992.0;
  const double u1 = ((0xbc57ac4cu >> 5) * 67108864.0 + (0x9b00dbd8u >> 6)) / 9007199254740992.0;
  EXPECT_NEAR(Random(0).normal(), std::sqrt(-2 * std::log(1 - u0)) * std::cos(2 * 3.14159265358979323846 * u1), 1e-15);
  EXPECT_EQ(Random(0).below(1000), 0x6627e8d5e169c58du % 1000);
  EXPECT_EQ(Random(0).below(1), 0u);
}

// 2^64 mod (2^63 + 1) is 2^63 - 1, so the first value of stream 0 (0x6627..., below 2^63 - 1) has to be drawn again.
TEST(Random, BelowRejectsWhatWouldBeBiased) {
  const uint64_t bound = (uint64_t{1} << 63) + 1;
  EXPECT_EQ(Random(0).below(bound), 0xbc57ac4c9b00dbd8u % bound);
}

TEST(Random, MomentsAreThoseOfTheDistributions) {
  Random random(1);
  constexpr int kDraws = 100000;
  double uniform = 0, normal = 0, square = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = random.uniform();
    ASSERT_TRUE(u >= 0 && u < 1);
    uniform += u / kDraws;
    const double z = random.normal();
    normal += z / kDraws;
    square += z * z / kDraws;
  }
  // Five standard errors: sqrt(1/12), 1 and sqrt(2), each over sqrt(draws).
  EXPECT_NEAR(uniform, 0.5, 5 * 0.2887 / 316.2);
  EXPECT_NEAR(normal, 0.0, 5 / 316.2);
  EXPECT_NEAR(square, 1.0, 5 * 1.4142 / 316.2);
}

TEST(Random, ShuffleDrawsEachOrderEquallyOften) {
  Random random(2);
  std::array<int, 6> counts{};
  for (int i = 0; i < 60000; ++i) {
    std::vector<int> values{0, 1, 2};
    random.shuffle(values);
    ++counts[static_cast<size_t>(values[0] * 2 + (values[1] > values[2]))];
  }
  for (const int count : counts) EXPECT_NEAR(count, 10000, 5 * 91.3);  // sqrt(60000 * 1/6 * 5/6) = 91.3
}

TEST(Random, ShuffleSwapsAsDocumented) {
  std::vector<int> expected(10);
  std::iota(expected.begin(), expected.end(), 0);
  std::vector<int> values = expected;
  Random(7, 3).shuffle(values);
  Random random(7, 3);
  for (size_t i = 10; i >= 2; --i)
    std::iter_swap(expected.begin() + static_cast<ptrdiff_t>(i) - 1,
                   expected.begin() + static_cast<ptrdiff_t>(random.below(i)));
  EXPECT_EQ(values, expected);
}

}  // namespace
}  // namespace rewardhead
