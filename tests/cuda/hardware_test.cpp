// SPDX-License-Identifier: Apache-2.0
//
// What the kernels take the hardware to do (hardware.h). Exact: operands are small integers, mostly codes of where they
// lie, so that a failure says what was found instead. On the software device these pass by construction, since it is
// built on the same reading of the documentation; the first GPU that runs them confirms the reading or not.
#include "tests/cuda/hardware.h"

#include <bit>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/cuda/device.h"

namespace rewardhead::kernels::cuda::testing {
namespace {

uint16_t bf16(int value) {  // exact for integers up to 256
  return static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16);
}
uint16_t f16(int value) { return kernels::testing::half_bits(static_cast<float>(value)); }
uint32_t pair(uint16_t low, uint16_t high) { return low | uint32_t{high} << 16; }
std::string text(size_t value) { return std::to_string(value); }

// One failure for all that differ, with the first of them in words.
template <class T, class Describe>
void expect_same(const std::string& assumption, const std::vector<T>& expected, const std::vector<T>& found,
                 const Describe& describe) {
  ASSERT_EQ(expected.size(), found.size());
  size_t wrong = 0, first = 0;
  for (size_t i = expected.size(); i-- > 0;) {
    if (expected[i] == found[i]) continue;
    ++wrong;
    first = i;
  }
  if (wrong == 0) return;
  ADD_FAILURE() << "This assumption is wrong on this device: " << assumption << ".\n"
                << wrong << " of " << expected.size() << " values differ, the first at " << describe(first)
                << ": expected " << expected[first] << ", found " << found[first];
}

// ---- A warp's instructions

std::vector<uint32_t> run_warp(WarpFact fact, const std::vector<uint32_t>& in, int64_t words) {
  const auto from = Array<uint32_t>::of(in);
  const Array<uint32_t> out(words);
  check(run_warp_fact(fact, from.data(), out.data(), stream()));
  return out.values();
}

TEST_P(DeviceTest, HardwarePrmtReplicatesSigns) {
  Random random(1);
  std::vector<uint32_t> in(64), expected(128);
  for (uint32_t& word : in) word = static_cast<uint32_t>(random());
  for (size_t i = 0; i < 128; ++i) {
    const size_t t = i % 32, byte = i / 32;
    const uint32_t low = in[t] >> (8 * byte + 7) & 1 ? 0xffff : 0, high = in[32 + t] >> (8 * byte + 7) & 1 ? 0xffff : 0;
    expected[i] = low | high << 16;
  }
  expect_same("prmt.b32 with a selector of 8 + x makes 0xff or 0x00 of byte x's sign bit", expected,
              run_warp(WarpFact::prmt, in, 128),
              [](size_t i) { return "thread " + text(i % 32) + ", byte " + text(i / 32) + " of both words"; });
}

TEST_P(DeviceTest, HardwareCpAsyncFillsWithZeros) {
  std::vector<uint32_t> expected(36, 0);
  for (size_t t = 0; t < 9; ++t) {
    for (size_t i = 0; i < t; ++i) expected[4 * t + i / 2] |= static_cast<uint32_t>(i + 1) << i % 2 * 16;
  }
  expect_same("cp.async with a source size below 16 fills the rest of the 16 bytes with zeros", expected,
              run_warp(WarpFact::cp_async, {0x00020001, 0x00040003, 0x00060005, 0x00080007}, 36),
              [](size_t i) { return text(2 * (i / 4)) + " valid bytes, word " + text(i % 4); });
}

TEST_P(DeviceTest, HardwareLdmatrixOrder) {
  std::vector<uint32_t> in(128);
  for (uint32_t i = 0; i < 128; ++i) in[i] = 2 * i | (2 * i + 1) << 16;
  for (const bool transposed : {false, true}) {
    std::vector<uint32_t> expected(128);
    for (uint32_t t = 0; t < 32; ++t) {
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t row = t / 4, column = t % 4 * 2;
        expected[4 * t + i] = transposed ? (64 * i + 8 * column + row) | (64 * i + 8 * (column + 1) + row) << 16
                                         : (64 * i + 8 * row + column) | (64 * i + 8 * row + column + 1) << 16;
      }
    }
    expect_same(transposed
                    ? "ldmatrix.x4.trans: register i of thread 4 g + q has column g, rows 2 q and 2 q + 1 of matrix i"
                    : "ldmatrix.x4: register i of thread 4 g + q has row g, columns 2 q and 2 q + 1 of matrix i",
                expected, run_warp(transposed ? WarpFact::ldmatrix_trans : WarpFact::ldmatrix, in, 128),
                [](size_t i) { return "thread " + text(i / 4) + ", register " + text(i % 4); });
  }
}

// Rows and columns of what thread 4 g + q holds, as the kernels take them to be: A by register and half, B by register
// and half, D by accumulator. A warpgroup's A and D are those of its four warps one below the other.
int a_row(int thread, int reg) { return thread / 32 * 16 + thread % 32 / 4 + 8 * (reg % 2); }
int a_k(int thread, int reg, int half) { return thread % 4 * 2 + half + 8 * (reg / 2); }
int b_k(int thread, int reg, int half) { return thread % 4 * 2 + half + 8 * reg; }
int b_column(int thread) { return thread / 4; }
int d_row(int thread, int accumulator) { return thread / 32 * 16 + thread % 32 / 4 + accumulator / 2 % 2 * 8; }
int d_column(int thread, int accumulator) { return accumulator / 4 * 8 + thread % 4 * 2 + accumulator % 2; }

// D of 16 x 8 through mma.m16n8k16 of A [16][16] and B [16][8], as these maps have it.
std::vector<int> multiply(WarpFact fact, const std::function<int(int row, int k)>& a,
                          const std::function<int(int k, int column)>& b) {
  const auto encode = fact == WarpFact::mma_f16 ? f16 : bf16;
  std::vector<uint32_t> in;
  for (int t = 0; t < 32; ++t) {
    for (int i = 0; i < 4; ++i) {
      in.push_back(pair(encode(a(a_row(t, i), a_k(t, i, 0))), encode(a(a_row(t, i), a_k(t, i, 1)))));
    }
  }
  for (int t = 0; t < 32; ++t) {
    for (int i = 0; i < 2; ++i) {
      in.push_back(pair(encode(b(b_k(t, i, 0), b_column(t))), encode(b(b_k(t, i, 1), b_column(t)))));
    }
  }
  const std::vector<uint32_t> out = run_warp(fact, in, 128);
  std::vector<int> d(128);
  for (int t = 0; t < 32; ++t) {
    for (int i = 0; i < 4; ++i) {
      d[static_cast<size_t>(8 * d_row(t, i) + d_column(t, i))] =
          static_cast<int>(std::bit_cast<float>(out[static_cast<size_t>(4 * t + i)]));
    }
  }
  return d;
}

std::vector<int> matrix(int rows, int columns, const std::function<int(int row, int column)>& value) {
  std::vector<int> values;
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) values.push_back(value(row, column));
  }
  return values;
}
auto place(int columns) {
  return [columns](size_t i) {
    return "row " + text(i / static_cast<size_t>(columns)) + ", column " + text(i % static_cast<size_t>(columns));
  };
}
int is_same(int a, int b) { return a == b; }

TEST_P(DeviceTest, HardwareMmaFragments) {
  for (const WarpFact fact : {WarpFact::mma_bf16, WarpFact::mma_f16}) {
    const std::string mma = fact == WarpFact::mma_f16 ? "mma.m16n8k16 (f16): " : "mma.m16n8k16 (bf16): ";
    expect_same(mma + "accumulator i of thread 4 g + q is row g + 8 (i / 2), column 2 q + i % 2",
                matrix(16, 8, [](int row, int column) { return 16 * row + column; }),
                multiply(fact, [](int row, int k) { return k == 0 ? 16 * row : int{k == 1}; },
                         [](int k, int column) { return k == 0 ? 1 : k == 1 ? column : 0; }),
                place(8));
    for (const int k0 : {0, 8}) {  // B picks eight columns of A
      expect_same(mma + "register i of A in thread 4 g + q is row g + 8 (i % 2), k 2 q + 8 (i / 2)",
                  matrix(16, 8, [k0](int row, int column) { return 16 * row + k0 + column; }),
                  multiply(fact, [](int row, int k) { return 16 * row + k; },
                           [k0](int k, int column) { return is_same(k, k0 + column); }),
                  place(8));
    }
    expect_same(mma + "register i of B in thread 4 g + q is column g, k 2 q + 8 i",
                matrix(16, 8, [](int row, int column) { return 8 * row + column; }),
                multiply(fact, is_same, [](int k, int column) { return 8 * k + column; }), place(8));
  }
}

// g of the masked products: A times ones.
TEST_P(DeviceTest, HardwareOnesSumRows) {
  for (const WarpFact fact : {WarpFact::mma_bf16, WarpFact::mma_f16}) {
    std::vector<int> expected;
    for (int row = 0; row < 16; ++row) expected.insert(expected.end(), 8, 16 * row + 120);
    expect_same("an mma with B = 1 in every register (0x3f80, 0x3c00) sums A's rows in every column, in fp32", expected,
                multiply(fact, [](int row, int k) { return row + k; }, [](int, int) { return 1; }), place(8));
  }
}

// ---- Compute capability 9.0

class Hardware90 : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (capability() != 90) GTEST_SKIP() << "this GPU's compute capability is not 9.0, which sm90/ is for";
  }
};
INSTANTIATE_TEST_SUITE_P(, Hardware90, ::testing::ValuesIn(kSchedules),
                         [](const auto& test) { return std::string(test.param); });

std::vector<uint16_t> halves(const std::vector<uint32_t>& words) {
  std::vector<uint16_t> all;
  for (const uint32_t word : words) {
    all.push_back(static_cast<uint16_t>(word));
    all.push_back(static_cast<uint16_t>(word >> 16));
  }
  return all;
}
TEST_P(Hardware90, BoxIsSwizzledAndZeroFilled) {
  std::vector<uint16_t> in(20 * 96, 0xffff), expected(1024);
  for (size_t row = 0; row < 20; ++row) {
    for (size_t column = 0; column < 72; ++column) in[96 * row + column] = static_cast<uint16_t>(100 * row + column);
  }
  for (size_t i = 0; i < 1024; ++i) {
    const size_t row = i / 64, column = 8 * (i % 64 / 8 ^ row % 8) + i % 8;
    expected[i] = 16 + column < 72 && 8 + row < 20 ? in[96 * (8 + row) + 16 + column] : 0;
  }
  const auto from = Array<uint16_t>::of(in);
  const Array<uint32_t> out(512);
  check(run_box(from.data(), out.data(), stream()));
  expect_same("a bulk tensor copy in the 128-byte swizzle puts the 16 bytes c of row r at c ^ (r % 8), and zeros where "
              "the tensor is not",
              expected, halves(out.values()), place(64));
}

TEST_P(Hardware90, MulticastReachesBothBlocks) {
  std::vector<uint16_t> in(1024), expected(2048);
  for (size_t i = 0; i < 1024; ++i) in[i] = static_cast<uint16_t>(i);
  for (size_t i = 0; i < 2048; ++i) {
    const size_t row = i / 64 % 16;
    expected[i] = in[64 * row + 8 * (i % 64 / 8 ^ row % 8) + i % 8];
  }
  const auto from = Array<uint16_t>::of(in);
  const Array<uint32_t> out(1024);
  check(run_multicast(from.data(), out.data(), stream()));
  expect_same("a multicast copy with mask 3 writes to the same offset, and completes its bytes on the barrier at the "
              "same offset, in both blocks of a cluster (65535: the barrier did not complete)",
              expected, halves(out.values()),
              [](size_t i) { return "block " + text(i / 1024) + ", " + place(64)(i % 1024); });
}

TEST_P(Hardware90, RemoteArrivalReachesThePeer) {
  const Array<uint32_t> out(64);
  check(run_remote_arrival(out.data(), stream()));
  expect_same("mapa and mbarrier.arrive.shared::cluster arrive at the other block's barrier",
              std::vector<uint32_t>(64, 1), out.values(),
              [](size_t i) { return "block " + text(i / 32) + ", thread " + text(i % 32); });
}

// D [64][128] of A [64][64] B [64][128], as the maps above have it.
std::vector<int> multiply(const WgmmaFact& fact, const std::function<int(int row, int k)>& a,
                          const std::function<int(int k, int column)>& b) {
  std::vector<uint16_t> a_values, b_values;
  if (fact.a_in_registers) {
    for (int k16 = 0; k16 < 4; ++k16) {
      for (int t = 0; t < 128; ++t) {
        for (int i = 0; i < 8; ++i) a_values.push_back(bf16(a(a_row(t, i / 2), 16 * k16 + a_k(t, i / 2, i % 2))));
      }
    }
  } else {
    for (const int value : matrix(64, 64, a)) a_values.push_back(bf16(value));
  }
  const std::vector<int> b_matrix =
      fact.b_columns_contiguous ? matrix(64, 128, b) : matrix(128, 64, [&](int column, int k) { return b(k, column); });
  for (const int value : b_matrix) b_values.push_back(bf16(value));
  const auto a_device = Array<uint16_t>::of(a_values), b_device = Array<uint16_t>::of(b_values);
  const Array<uint32_t> out(128 * 64);
  check(run_wgmma(fact, a_device.data(), b_device.data(), out.data(), stream()));
  const std::vector<uint32_t> words = out.values();
  std::vector<int> d(64 * 128);
  for (int t = 0; t < 128; ++t) {
    for (int i = 0; i < 64; ++i) {
      const uint32_t word = words[static_cast<size_t>(64 * t + i)];
      d[static_cast<size_t>(128 * d_row(t, i) + d_column(t, i))] =
          word == kNotComplete ? -1 : static_cast<int>(std::bit_cast<float>(word));
    }
  }
  return d;
}

// A [64][64] times the identity [64][128].
std::vector<int> first_columns(const std::function<int(int row, int k)>& a) {
  return matrix(64, 128, [&](int row, int column) { return column < 64 ? a(row, column) : 0; });
}

constexpr WgmmaFact kBothKMajor = {false, false, 16, 1024, 32};
constexpr WgmmaFact kBColumnsContiguous = {true, true, 8192, 1024, 2048};

// Each code of a matrix's elements in turn: D is then that matrix, if the other operand is the identity.
const std::pair<const char*, std::function<int(int, int)>> kCodes[] = {
    {" (D is the row of A, the k of B)", [](int row, int) { return row; }},
    {" (D is the k of A, the column of B)", [](int, int column) { return column; }}};

TEST_P(Hardware90, WgmmaAccumulatorsAndKMajorOperands) {
  expect_same("wgmma m64nNk16, both operands K-major: accumulator i of thread 32 w + 4 g + q is row 16 w + g + "
              "8 (i / 2 % 2), column 8 (i / 4) + 2 q + i % 2 (-1: the copy did not complete)",
              matrix(64, 128, [](int row, int column) { return 128 * row + column; }),
              multiply(kBothKMajor, [](int row, int k) { return k == 0 ? 2 * row : int{k == 1}; },
                       [](int k, int column) { return k == 0 ? 64 : k == 1 ? column : 0; }),
              place(128));
  for (const auto& [what, code] : kCodes) {
    expect_same(std::string("K-major B in the 128-byte swizzle: the stride offset, 1024, leads to the next 8 columns, "
                            "k16 is 32 bytes further, and the leading offset does not count") + what,
                matrix(64, 128, code), multiply(kBothKMajor, is_same, code), place(128));
    expect_same(std::string("K-major A in the 128-byte swizzle: the stride offset, 1024, leads to the next 8 rows, "
                            "k16 is 32 bytes further") + what,
                first_columns(code), multiply(kBothKMajor, code, is_same), place(128));
  }
}

TEST_P(Hardware90, WgmmaFragmentsOfA) {
  constexpr WgmmaFact kFragments = {true, false, 16, 1024, 32};
  for (const auto& [what, code] : kCodes) {
    expect_same(std::string("A of wgmma in registers: register i of thread 32 w + 4 g + q is row 16 w + g + 8 (i % 2), "
                            "k 2 q + 8 (i / 2)") + what,
                first_columns(code), multiply(kFragments, code, is_same), place(128));
  }
}

TEST_P(Hardware90, WgmmaBOfContiguousColumns) {
  for (const auto& [what, code] : kCodes) {
    const std::vector<int> expected = matrix(64, 128, code);
    const std::vector<int> found = multiply(kBColumnsContiguous, is_same, code);
    expect_same(std::string("MN-major B (tnspB = 1): the leading offset, 8192, leads to the next 64 columns, the "
                            "stride offset, 1024, to the next 8 k, and k16 is 2048 bytes further") + what,
                expected, found, place(128));
    if (found == expected) continue;
    WgmmaFact exchanged = kBColumnsContiguous;
    std::swap(exchanged.leading, exchanged.stride);
    ADD_FAILURE() << "with leading and stride offset exchanged it is "
                  << (multiply(exchanged, is_same, code) == expected ? "right" : "wrong, too");
  }
}

TEST_P(Hardware90, RegistersMoveBetweenWarpgroups) {
  std::vector<uint32_t> in(256 * kLiveRegisters), expected(256, 0);
  for (size_t i = 0; i < in.size(); ++i) {
    in[i] = static_cast<uint32_t>(i % 1009);
    expected[i % 256] += static_cast<uint32_t>(i / 256 + 1) * in[i];
  }
  const auto from = Array<uint32_t>::of(in);
  const Array<uint32_t> out(256);
  check(run_register_budget(from.data(), out.data(), stream()));
  expect_same("of 384 threads, after setmaxnreg.dec to 40 in one warpgroup the other two can take 232 registers each",
              expected, out.values(), [](size_t i) { return "thread " + text(128 + i); });
}

}  // namespace
}  // namespace rewardhead::kernels::cuda::testing
