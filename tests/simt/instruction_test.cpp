// SPDX-License-Identifier: Apache-2.0
//
// What the instructions compute, against plain loops over the layouts that the PTX ISA gives.
#include <cmath>
#include <random>

#include "tests/simt/hazard_testing.h"

namespace simt::testing {
namespace {

struct Buffers {
  const uint16_t* in;
  uint32_t* out;
  ptx::TensorMap a, b, c;
  int transpose_a, transpose_b;
};

// Small integers: every product and sum is exact.
std::vector<float> integers(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (float& v : values) v = static_cast<float>(static_cast<int>(random() % 9) - 4);
  return values;
}
std::vector<uint16_t> stored(ptx::Input input, const std::vector<float>& values) {
  std::vector<uint16_t> bits(values.size());
  for (size_t i = 0; i < values.size(); ++i) bits[i] = static_cast<uint16_t>(ptx::pack(input, values[i], 0));
  return bits;
}
std::vector<float> as_floats(const std::vector<uint32_t>& words) {
  std::vector<float> values(words.size());
  std::memcpy(values.data(), words.data(), words.size() * 4);
  return values;
}

void run_all_schedules(Launch launch, void (*kernel)(Buffers), const Buffers& buffers,
                       const std::function<void()>& check) {
  for (const auto& [schedule, seed] : schedules()) {
    launch.schedule = schedule;
    launch.seed = seed;
    run(launch, kernel, buffers);
    check();
  }
}

// ---- Warps

RH_KERNEL(64, 1) shuffles(RH_GRID_CONST const Buffers b) {
  const uint32_t t = ptx::thread_index();
  const uint32_t sum = ptx::shfl_xor(t, 5) * 10000 + ptx::shfl(t, 3) * 100 + ptx::uniform(t / 32);
  const uint32_t odd = ptx::ballot(t % 2 == 1);
  ptx::stg32(b.out + t, sum + (odd == 0xaaaaaaaa ? 0 : 1u << 31));
}
TEST(Instructions, Shuffles) {
  DeviceArray<uint32_t> out(64);
  run_all_schedules(one_block(64), shuffles, {nullptr, out.data(), {}, {}, {}, 0, 0}, [&] {
    const std::vector<uint32_t> found = out.host();
    for (uint32_t t = 0; t < 64; ++t) EXPECT_EQ(found[t], (t ^ 5) * 10000 + (t / 32 * 32 + 3) * 100 + t / 32) << t;
  });
}

RH_KERNEL(96, 1) elections(RH_GRID_CONST const Buffers b) {
  if (ptx::elect_one()) ptx::atomic_add(b.out + ptx::thread_index() / 32, 1);
}
TEST(Instructions, OneElectedLaneOfEachWarp) {
  DeviceArray<uint32_t> out(std::vector<uint32_t>(3, 0));
  run(one_block(96), elections, {nullptr, out.data(), {}, {}, {}, 0, 0});
  EXPECT_EQ(out.host(), std::vector<uint32_t>(3, 1));
}

RH_KERNEL(32, 1) flags(RH_GRID_CONST const Buffers b) {
  ptx::atomic_or(b.out + 1, ptx::atomic_or(b.out, 1u << ptx::thread_index()) ? 2 : 4);
}
TEST(Instructions, AtomicsReturnWhatWasThere) {
  DeviceArray<uint32_t> out(std::vector<uint32_t>(2, 0));
  run(one_block(32), flags, {nullptr, out.data(), {}, {}, {}, 0, 0});
  EXPECT_EQ(out.host(), (std::vector<uint32_t>{~0u, 6}));  // one lane found 0, the others did not
}

TEST(Instructions, PrmtSelectsBytesAndReplicatesSigns) {
  EXPECT_EQ(ptx::prmt<0x3210>(0x11223344, 0xaabbccdd), 0x11223344u);
  EXPECT_EQ(ptx::prmt<0x7654>(0x11223344, 0xaabbccdd), 0xaabbccddu);
  EXPECT_EQ(ptx::prmt<0x0415>(0x11223344, 0xaabbccdd), 0x44dd33ccu);
  EXPECT_EQ(ptx::prmt<0xcc88>(0x00000080, 0x0000007f), 0x0000ffffu);
}

TEST(Instructions, ConversionsRoundToNearestEven) {
  using ptx::Input;
  // All halves and bfloat16s come back as they were.
  for (const Input input : {Input::bf16, Input::f16}) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
      const float value = ptx::low(input, bits);
      if (std::isnan(value)) continue;
      ASSERT_EQ(ptx::pack(input, value, value), bits | bits << 16) << bits;
    }
  }
  EXPECT_EQ(ptx::pack<Input::bf16>(1.00390625f, 1.01171875f), 0x3f823f80u);  // ties: to the even neighbour
  EXPECT_EQ(ptx::pack<Input::f16>(1.00048828125f, 1.00146484375f), 0x3c023c00u);
  EXPECT_EQ(ptx::pack<Input::f16>(65519.0f, 65520.0f), 0x7c007bffu);
  EXPECT_EQ(ptx::pack<Input::f16>(0x1p-25f, 0x1.8p-24f), 0x00020000u);
  EXPECT_EQ(ptx::high<Input::f16>(0xc0003c00), -2.0f);
}

// ---- ldmatrix, stmatrix, mma

template <bool kTranspose>
RH_KERNEL(32, 1) load_matrices(RH_GRID_CONST const Buffers b) {
  const uint32_t t = ptx::thread_index(), shared = ptx::smem_base();
  ptx::cp_async16(shared + 16 * t, b.in + 8 * t, 16);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  ptx::syncwarp();
  uint32_t r[4];
  if (kTranspose) {
    ptx::ldmatrix_x4_trans(r, shared + 16 * t);
  } else {
    ptx::ldmatrix_x4(r, shared + 16 * t);
  }
  for (uint32_t i = 0; i < 4; ++i) ptx::stg32(b.out + 4 * t + i, r[i]);
}
TEST(Instructions, Ldmatrix) {
  std::vector<uint16_t> in(256);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint16_t>(i);
  DeviceArray<uint16_t> from(in);
  DeviceArray<uint32_t> out(128);
  for (const bool transpose : {false, true}) {
    run(one_block(32), transpose ? load_matrices<true> : load_matrices<false>,
        {from.data(), out.data(), {}, {}, {}, 0, 0});
    const std::vector<uint32_t> found = out.host();
    for (uint32_t t = 0; t < 32; ++t) {
      for (uint32_t i = 0; i < 4; ++i) {
        const auto at = [&](uint32_t row, uint32_t column) {
          return uint32_t{in[64 * i + (transpose ? 8 * column + row : 8 * row + column)]};
        };
        EXPECT_EQ(found[4 * t + i], at(t / 4, t % 4 * 2) | at(t / 4, t % 4 * 2 + 1) << 16);
      }
    }
  }
}

RH_KERNEL(32, 1) store_matrices(RH_GRID_CONST const Buffers b) {
  const uint32_t t = ptx::thread_index(), shared = ptx::smem_base();
  const uint32_t r[4] = {t, 100 + t, 200 + t, 300 + t};
  ptx::stmatrix_x4(shared + 16 * t, r);
  ptx::syncwarp();
  uint32_t back[4];
  ptx::ldmatrix_x4(back, shared + 16 * t);
  for (uint32_t i = 0; i < 4; ++i) ptx::stg32(b.out + 4 * t + i, back[i]);
}
TEST(Instructions, StmatrixIsTheInverseOfLdmatrix) {
  DeviceArray<uint32_t> out(128);
  run(one_block(32), store_matrices, {nullptr, out.data(), {}, {}, {}, 0, 0});
  const std::vector<uint32_t> found = out.host();
  for (uint32_t t = 0; t < 32; ++t) {
    for (uint32_t i = 0; i < 4; ++i) EXPECT_EQ(found[4 * t + i], 100 * i + t);
  }
}

// C[16][8] = A[16][16] B[16][8], from row-major A and B^T in `in`.
template <ptx::Input kInput>
RH_KERNEL(32, 1) multiply_warp(RH_GRID_CONST const Buffers b) {
  const uint32_t t = ptx::thread_index(), g = t / 4, q = t % 4;
  const uint32_t* const a = reinterpret_cast<const uint32_t*>(b.in);
  const uint32_t* const bt = a + 128;
  const uint32_t fragment[4] = {ptx::ldg32(a + 8 * g + q), ptx::ldg32(a + 8 * (g + 8) + q),
                                ptx::ldg32(a + 8 * g + q + 4), ptx::ldg32(a + 8 * (g + 8) + q + 4)};
  float d[4] = {1, 1, 1, 1};
  ptx::mma_m16n8k16<kInput>(d, fragment, ptx::ldg32(bt + 8 * g + q), ptx::ldg32(bt + 8 * g + q + 4));
  for (uint32_t i = 0; i < 4; ++i) {
    ptx::stg32(b.out + 8 * (g + i / 2 * 8) + 2 * q + i % 2, __builtin_bit_cast(uint32_t, d[i]));
  }
}
TEST(Instructions, MmaIsExactOnIntegers) {
  for (const ptx::Input input : {ptx::Input::bf16, ptx::Input::f16}) {
    const std::vector<float> values = integers(256 + 128, 7);
    DeviceArray<uint16_t> in(stored(input, values));
    DeviceArray<uint32_t> out(128);
    run_all_schedules(one_block(32),
                      input == ptx::Input::f16 ? multiply_warp<ptx::Input::f16> : multiply_warp<ptx::Input::bf16>,
                      {in.data(), out.data(), {}, {}, {}, 0, 0}, [&] {
                        const std::vector<float> found = as_floats(out.host());
                        for (size_t m = 0; m < 16; ++m) {
                          for (size_t n = 0; n < 8; ++n) {
                            float sum = 1;
                            for (size_t k = 0; k < 16; ++k) sum += values[16 * m + k] * values[256 + 16 * n + k];
                            EXPECT_EQ(found[8 * m + n], sum);
                          }
                        }
                      });
  }
}

// ---- Bulk copies

constexpr uint32_t kBar = 0x400 + 65536;

RH_DEVICE void init_barriers() {
  if (ptx::thread_index() == 0) {
    ptx::mbar_init(kBar, 1);
    ptx::fence_mbarrier_init();
  }
  ptx::syncthreads();
}

// Boxes of 16 x 8 elements at (inner, outer) given by transpose_*.
RH_KERNEL(32, 1) box(RH_GRID_CONST const Buffers b) {
  init_barriers();
  if (ptx::elect_one()) {
    ptx::mbar_expect_tx(kBar, 1024);
    ptx::tma_load_2d(0x400, &b.a, kBar, b.transpose_a, b.transpose_b);
  }
  ptx::mbar_wait(kBar, 0);
  for (uint32_t i = 0; i < 8; ++i)
    ptx::stg32(b.out + ptx::thread_index() + 32 * i, ptx::lds32(0x400 + 4 * (ptx::thread_index() + 32 * i)));
}
TEST(Instructions, BulkLoadZeroFillsAndSwizzles) {
  std::vector<uint16_t> in(20 * 96, 0xffff);  // rows of 72 in a pitch of 96: NaNs between
  for (size_t r = 0; r < 20; ++r) {
    for (size_t c = 0; c < 72; ++c) in[96 * r + c] = static_cast<uint16_t>(100 * r + c);
  }
  DeviceArray<uint16_t> from(in);
  DeviceArray<uint32_t> out(256);
  for (const auto& [inner, outer] : {std::pair{0, 0}, {16, 3}, {64, 16}, {-8, -2}, {200, 0}}) {
    run(one_block(32, 65536 + 8), box,
        {nullptr, out.data(), tensor_map(from.data(), 72, 20, 192, 64, 8), {}, {}, inner, outer});
    const std::vector<uint32_t> words = out.host();
    for (int r = 0; r < 8; ++r) {
      for (int c = 0; c < 64; ++c) {
        const int chunk = (c / 8) ^ r, at = 64 * r + 8 * chunk + c % 8;
        const uint32_t found = words[static_cast<size_t>(at / 2)] >> at % 2 * 16 & 0xffff;
        const int x = inner + c, y = outer + r;
        const bool inside = x >= 0 && x < 72 && y >= 0 && y < 20;
        ASSERT_EQ(found, inside ? 100u * static_cast<uint32_t>(y) + static_cast<uint32_t>(x) : 0u) << x << ' ' << y;
      }
    }
  }
}

RH_KERNEL(32, 1) copy_box(RH_GRID_CONST const Buffers b) {
  init_barriers();
  if (ptx::thread_index() == 0) {
    ptx::mbar_expect_tx(kBar, 1024);
    ptx::tma_load_2d(0x400, &b.a, kBar, 0, 0);
    ptx::mbar_wait(kBar, 0);
    ptx::tma_store_2d(&b.b, 0x400, b.transpose_a, b.transpose_b);
    ptx::bulk_commit();
    ptx::bulk_wait<0>();
  }
}
TEST(Instructions, BulkStoreIsCutToTheTensor) {
  std::vector<uint16_t> in(64 * 8);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint16_t>(i + 1);
  DeviceArray<uint16_t> from(in), to(std::vector<uint16_t>(10 * 80, 0));
  run(one_block(32, 65536 + 8), copy_box,
      {nullptr,
       nullptr,
       tensor_map(from.data(), 64, 8, 128, 64, 8),
       tensor_map(to.data(), 72, 10, 160, 64, 8),
       {},
       24,
       5});
  const std::vector<uint16_t> found = to.host();
  for (size_t r = 0; r < 10; ++r) {
    for (size_t c = 0; c < 80; ++c) {
      const bool written = r >= 5 && c >= 24 && c < 72;
      ASSERT_EQ(found[80 * r + c], written ? in[64 * (r - 5) + c - 24] : 0) << r << ' ' << c;
    }
  }
}

// Each of two blocks brings half of what both get.
RH_KERNEL(32, 1) multicast(RH_GRID_CONST const Buffers b) {
  init_barriers();
  ptx::cluster_sync();
  const uint32_t rank = ptx::cluster_rank();
  if (ptx::thread_index() == 0) {
    ptx::mbar_expect_tx(kBar, 2048);
    ptx::tma_load_2d_multicast(0x400 + 1024 * rank, &b.a, kBar, 0, 8 * static_cast<int>(rank), 3);
  }
  ptx::mbar_wait(kBar, 0);
  for (uint32_t i = ptx::thread_index(); i < 512; i += 32) {
    ptx::stg32(b.out + 512 * ptx::block_index() + i, ptx::lds32(0x400 + 4 * i));
  }
  ptx::cluster_sync();
}
TEST(Instructions, MulticastReachesBothBlocks) {
  std::vector<uint16_t> in(64 * 16);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint16_t>(i);
  DeviceArray<uint16_t> from(in);
  DeviceArray<uint32_t> out(1024 * 2);
  Launch launch = one_block(32, 65536 + 8);
  launch.blocks = 4;
  launch.cluster = 2;
  run_all_schedules(launch, multicast, {nullptr, out.data(), tensor_map(from.data(), 64, 16, 128, 64, 8), {}, {}, 0, 0},
                    [&] {
                      const std::vector<uint32_t> words = out.host();
                      for (uint32_t block = 0; block < 4; ++block) {
                        for (uint32_t i = 0; i < 1024; ++i) {
                          const uint32_t row = i / 64, at = 64 * row + 8 * ((i % 64 / 8) ^ row % 8) + i % 8;
                          ASSERT_EQ(words[512 * block + at / 2] >> at % 2 * 16 & 0xffff, i);
                        }
                      }
                    });
}

RH_KERNEL(32, 1) bulk(RH_GRID_CONST const Buffers b) {
  init_barriers();
  if (ptx::thread_index() == 0) {
    ptx::mbar_expect_tx(kBar, 256);
    ptx::bulk_load(0x400, b.in, 128, kBar);
    ptx::bulk_load(0x400 + 128, b.in + 64, 128, kBar);
  }
  ptx::mbar_wait(kBar, 0);
  for (uint32_t i = ptx::thread_index(); i < 64; i += 32) ptx::stg32(b.out + i, ptx::lds32(0x400 + 4 * i));
}
TEST(Instructions, BulkLoad) {
  const std::vector<uint16_t> in(128, 0x1234);
  DeviceArray<uint16_t> from(in);
  DeviceArray<uint32_t> out(64);
  run_all_schedules(one_block(32, 65536 + 8), bulk, {from.data(), out.data(), {}, {}, {}, 0, 0},
                    [&] { EXPECT_EQ(out.host(), std::vector<uint32_t>(64, 0x12341234)); });
}

// ---- wgmma: C[64][n] += A[64][64] B[64][n] for one warpgroup, both operands K-major or MN-major in memory.

template <int n, ptx::Input kInput, int kTransA, int kTransB, bool kFragments>
RH_KERNEL(128, 1) multiply_warpgroup(RH_GRID_CONST const Buffers b) {
  constexpr uint32_t kA = 0x400, kB = kA + 8192;
  init_barriers();
  if (ptx::thread_index() == 0) {
    ptx::mbar_expect_tx(kBar, 8192 + n * 128);
    ptx::tma_load_2d(kA, &b.a, kBar, 0, 0);
    if (kTransB) {  // [k][n], in boxes of 64 columns
      for (int column = 0; column < n; column += 64) ptx::tma_load_2d(kB + 128 * column, &b.b, kBar, column, 0);
    } else {
      for (int row = 0; row < n; row += 64) ptx::tma_load_2d(kB + 128 * row, &b.b, kBar, 0, row);
    }
  }
  ptx::mbar_wait(kBar, 0);
  const uint32_t t = ptx::thread_index(), warp = t / 32, g = t % 32 / 4, q = t % 4;
  float d[n / 2] = {};
  const uint64_t desc_a = ptx::smem_desc_sw128(kA, 8192, 1024), desc_b = ptx::smem_desc_sw128(kB, 8192, 1024);
  constexpr uint64_t kStepA = kTransA ? 2048 >> 4 : 32 >> 4, kStepB = kTransB ? 2048 >> 4 : 32 >> 4;
  uint32_t fragments[4][4];
  for (uint32_t k = 0; k < 4; ++k) {
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t row = 16 * warp + g + 8 * (i & 1), column = 16 * k + 2 * q + 8 * (i >> 1);
      fragments[k][i] = ptx::ldg32(b.in + 64 * row + column);
    }
  }
  ptx::wgmma_fence();
  for (uint32_t k = 0; k < 4; ++k) {
    if constexpr (kFragments) {
      if constexpr (n == 64) ptx::wgmma_m64n64k16_rs<kInput, kTransB>(d, fragments[k], desc_b + k * kStepB);
      if constexpr (n == 128) ptx::wgmma_m64n128k16_rs<kInput, kTransB>(d, fragments[k], desc_b + k * kStepB);
      if constexpr (n == 256) ptx::wgmma_m64n256k16_rs<kInput, kTransB>(d, fragments[k], desc_b + k * kStepB);
    } else {
      const uint64_t at = desc_a + k * kStepA;
      if constexpr (n == 64) ptx::wgmma_m64n64k16_ss<kInput, kTransA, kTransB>(d, at, desc_b + k * kStepB);
      if constexpr (n == 128) ptx::wgmma_m64n128k16_ss<kInput, kTransA, kTransB>(d, at, desc_b + k * kStepB);
      if constexpr (n == 256) ptx::wgmma_m64n256k16_ss<kInput, kTransA, kTransB>(d, at, desc_b + k * kStepB);
    }
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  for (uint32_t i = 0; i < n / 2; ++i) {
    const uint32_t row = 16 * warp + g + 8 * (i / 2 % 2), column = i / 4 * 8 + 2 * q + i % 2;
    ptx::stg32(b.out + n * row + column, __builtin_bit_cast(uint32_t, d[i]));
  }
}

template <int n, ptx::Input kInput, int kTransA, int kTransB, bool kFragments>
void check_wgmma() {
  const std::vector<float> a = integers(64 * 64, 1), b = integers(64 * n, 2);  // a[m][k], b[k][n]
  std::vector<float> a_memory = a, b_memory = b;
  for (size_t m = 0; m < 64 && kTransA; ++m) {
    for (size_t k = 0; k < 64; ++k) a_memory[64 * k + m] = a[64 * m + k];
  }
  for (size_t k = 0; k < 64 && !kTransB; ++k) {
    for (size_t j = 0; j < n; ++j) b_memory[64 * j + k] = b[n * k + j];
  }
  DeviceArray<uint16_t> device_a(stored(kInput, a_memory)), device_b(stored(kInput, b_memory)), rows(stored(kInput, a));
  DeviceArray<uint32_t> out(64 * n);
  const TensorMap map_a = tensor_map(device_a.data(), 64, 64, 128, 64, 64);
  const TensorMap map_b =
      kTransB ? tensor_map(device_b.data(), n, 64, 2 * n, 64, 64) : tensor_map(device_b.data(), 64, n, 128, 64, 64);
  run_all_schedules(one_block(128, 65536 + 8), multiply_warpgroup<n, kInput, kTransA, kTransB, kFragments>,
                    {rows.data(), out.data(), map_a, map_b, {}, 0, 0}, [&] {
                      const std::vector<float> found = as_floats(out.host());
                      for (size_t m = 0; m < 64; ++m) {
                        for (size_t j = 0; j < n; ++j) {
                          float sum = 0;
                          for (size_t k = 0; k < 64; ++k) sum += a[64 * m + k] * b[n * k + j];
                          ASSERT_EQ(found[n * m + j], sum) << m << ' ' << j;
                        }
                      }
                    });
}

TEST(Instructions, WgmmaIsExactOnIntegers) {
  using ptx::Input;
  check_wgmma<64, Input::bf16, 0, 0, false>();
  check_wgmma<64, Input::f16, 1, 1, false>();
  check_wgmma<64, Input::bf16, 0, 1, true>();
  check_wgmma<128, Input::bf16, 0, 1, true>();
  check_wgmma<128, Input::f16, 0, 0, true>();
  check_wgmma<128, Input::bf16, 1, 0, false>();
  check_wgmma<256, Input::bf16, 0, 0, false>();
  check_wgmma<256, Input::f16, 0, 1, false>();
  check_wgmma<256, Input::f16, 0, 0, true>();
}

}  // namespace
}  // namespace simt::testing
