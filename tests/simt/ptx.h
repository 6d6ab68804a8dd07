// SPDX-License-Identifier: Apache-2.0
//
// The wrappers of kernels/cuda/ptx.h on the software device. Included by that file only, under a compiler that is not
// nvcc. What each does, and what it reports, is in the .cpp file named above its group.
#pragma once

#include <cstdint>
#include <cstring>
#include <source_location>

#include "tests/simt/launch.h"

#define RH_KERNEL(threads, min_blocks) void
#define RH_DEVICE inline
#define RH_HOST_DEVICE inline
#define RH_GRID_CONST
#define RH_UNROLL

namespace ptx {

using TensorMap = simt::TensorMap;
using Place = std::source_location;  // of an access in the kernel's source

// ---- collectives.cpp
uint32_t thread_index();
uint32_t block_index();
uint32_t block_count();
uint32_t uniform(uint32_t x);
float shfl_xor(float v, int lane_mask);
uint32_t shfl_xor(uint32_t v, int lane_mask);
float shfl(float v, int lane);
uint32_t shfl(uint32_t v, int lane);
uint32_t ballot(bool v);
void syncwarp();
void syncthreads();
void named_barrier(int id, int threads);
uint32_t cluster_rank();
void cluster_sync();
bool elect_one();
void grid_dependency_wait();
void grid_dependency_launch();
void setmaxnreg_inc(uint32_t registers);
void setmaxnreg_dec(uint32_t registers);
template <uint32_t kRegisters>
void setmaxnreg_inc() {
  setmaxnreg_inc(kRegisters);
}
template <uint32_t kRegisters>
void setmaxnreg_dec() {
  setmaxnreg_dec(kRegisters);
}

// ---- shared_memory.cpp
uint32_t smem_base();
uint32_t lds32(uint32_t address, const Place& place = Place::current());
float lds32f(uint32_t address, const Place& place = Place::current());
Float2 lds64f(uint32_t address, const Place& place = Place::current());
Float4 lds128f(uint32_t address, const Place& place = Place::current());
Word4 lds128(uint32_t address, const Place& place = Place::current());
void sts32(uint32_t address, uint32_t v, const Place& place = Place::current());
void sts32f(uint32_t address, float v, const Place& place = Place::current());
void sts64f(uint32_t address, float x, float y, const Place& place = Place::current());
void sts128f(uint32_t address, Float4 v, const Place& place = Place::current());
void sts128(uint32_t address, Word4 v, const Place& place = Place::current());

// ---- global_memory.cpp
uint16_t ldg16(const void* from);
uint32_t ldg32(const void* from);
uint64_t ldg64(const void* from);
float ldg32f(const float* from);
Float4 ldg128f(const float* from);
Word4 ldg128(const void* from);
void stg16(void* to, uint16_t v);
void stg32(void* to, uint32_t v);
void stg64(void* to, uint64_t v);
void stg32f(float* to, float v);
void stg64f(float* to, float x, float y);
void stg128f(float* to, Float4 v);
void stg128(void* to, Word4 v);
uint32_t atomic_add(uint32_t* to, uint32_t v);
uint32_t atomic_or(uint32_t* to, uint32_t v);

// ---- copies.cpp
void cp_async16(uint32_t to, const void* from, uint32_t valid_bytes, const Place& place = Place::current());
void cp_async_commit();
void cp_async_wait(int pending);
template <int kPending>
void cp_async_wait() {
  cp_async_wait(kPending);
}
void mbar_init(uint32_t bar, uint32_t arrivals);
void fence_mbarrier_init();
void mbar_expect_tx(uint32_t bar, uint32_t bytes);
void mbar_arrive(uint32_t bar);
void mbar_arrive_remote(uint32_t bar, uint32_t cluster_rank);
bool mbar_try_wait(uint32_t bar, uint32_t parity);
void mbar_wait(uint32_t bar, uint32_t parity);
void fence_proxy_async();
void prefetch_tensor_map(const TensorMap* map);
void tma_load_2d(uint32_t to, const TensorMap* map, uint32_t bar, int32_t inner, int32_t outer);
void tma_load_2d_multicast(uint32_t to, const TensorMap* map, uint32_t bar, int32_t inner, int32_t outer,
                           uint16_t rank_mask);
void bulk_load(uint32_t to, const void* from, uint32_t bytes, uint32_t bar);
void tma_store_2d(const TensorMap* map, uint32_t from, int32_t inner, int32_t outer);
void bulk_commit();
void bulk_wait(int pending);
template <int kPending>
void bulk_wait_read() {
  bulk_wait(kPending);
}
template <int kPending>
void bulk_wait() {
  bulk_wait(kPending);
}

// ---- matrix.cpp
float low(Input input, uint32_t pair);
uint32_t pack(Input input, float low, float high);
void ldmatrix_x4(uint32_t (&r)[4], uint32_t address, const Place& place = Place::current());
void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t address, const Place& place = Place::current());
void stmatrix_x4(uint32_t address, const uint32_t (&r)[4], const Place& place = Place::current());
void mma_m16n8k16(Input input, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(int pending);
// Fragments are null where a comes from shared memory.
void wgmma(Input input, int columns, float* d, const uint32_t* fragments, uint64_t a, bool transpose_a, uint64_t b,
           bool transpose_b);

template <Input kInput>
float low(uint32_t pair) {
  return low(kInput, pair);
}
template <Input kInput>
float high(uint32_t pair) {
  return low(kInput, pair >> 16);
}
template <Input kInput>
uint32_t pack(float low, float high) {
  return pack(kInput, low, high);
}
template <Input kInput>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  mma_m16n8k16(kInput, d, a, b0, b1);
}
template <int kPending>
void wgmma_wait() {
  wgmma_wait(kPending);
}
template <Input kInput, int kTransA, int kTransB>
void wgmma_m64n64k16_ss(float (&d)[32], uint64_t desc_a, uint64_t desc_b) {
  wgmma(kInput, 64, d, nullptr, desc_a, kTransA, desc_b, kTransB);
}
template <Input kInput, int kTransB>
void wgmma_m64n64k16_rs(float (&d)[32], const uint32_t (&a)[4], uint64_t desc_b) {
  wgmma(kInput, 64, d, a, 0, false, desc_b, kTransB);
}
template <Input kInput, int kTransA, int kTransB>
void wgmma_m64n128k16_ss(float (&d)[64], uint64_t desc_a, uint64_t desc_b) {
  wgmma(kInput, 128, d, nullptr, desc_a, kTransA, desc_b, kTransB);
}
template <Input kInput, int kTransB>
void wgmma_m64n128k16_rs(float (&d)[64], const uint32_t (&a)[4], uint64_t desc_b) {
  wgmma(kInput, 128, d, a, 0, false, desc_b, kTransB);
}
template <Input kInput, int kTransA, int kTransB>
void wgmma_m64n256k16_ss(float (&d)[128], uint64_t desc_a, uint64_t desc_b) {
  wgmma(kInput, 256, d, nullptr, desc_a, kTransA, desc_b, kTransB);
}
template <Input kInput, int kTransB>
void wgmma_m64n256k16_rs(float (&d)[128], const uint32_t (&a)[4], uint64_t desc_b) {
  wgmma(kInput, 256, d, a, 0, false, desc_b, kTransB);
}

// A selector nibble with bit 3 set replicates its byte's sign bit over the byte.
template <uint32_t kSelector>
uint32_t prmt(uint32_t a, uint32_t b) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t nibble = kSelector >> 4 * i & 15;
    uint32_t byte = bytes >> 8 * (nibble & 7) & 0xff;
    if (nibble & 8) byte = byte & 0x80 ? 0xff : 0;
    result |= byte << 8 * i;
  }
  return result;
}

}  // namespace ptx
