// SPDX-License-Identifier: Apache-2.0
//
// Every hardware operation of the kernels, one named wrapper an instruction. Under nvcc the bodies are PTX; under a
// plain C++ compiler they come from the software device (tests/simt). A kernel contains no assembly and no CUDA
// keyword: RH_KERNEL for its head, RH_DEVICE for its functions, and these.
//
// Shared memory is addressed by 32-bit shared-window addresses, in bytes. A warp is 32 threads that execute the same
// wrapper together wherever a comment says "warp"; a warpgroup is four warps, from a multiple of four on.
#pragma once

#include <cstdint>

namespace ptx {

enum class Input { bf16, f16 };  // of the two operands of a matrix product; accumulators are fp32

struct alignas(8) Float2 {
  float x, y;
};
struct alignas(16) Float4 {
  float x, y, z, w;
};
struct alignas(16) Word4 {
  uint32_t x, y, z, w;
};

}  // namespace ptx

#if !defined(__CUDACC__)
#include "tests/simt/ptx.h"
#else

#include <cuda.h>

// Threads of a block, and blocks that must fit a multiprocessor together (the compiler's register limit).
#define RH_KERNEL(threads, min_blocks) __global__ void __launch_bounds__(threads, min_blocks)
#define RH_DEVICE __device__ __forceinline__
#define RH_HOST_DEVICE __host__ __device__ __forceinline__  // what constexpr functions of the host also call
#define RH_GRID_CONST __grid_constant__  // of the one parameter struct: tensor maps are used where they lie
#define RH_UNROLL _Pragma("unroll")

namespace ptx {

using TensorMap = CUtensorMap;

// ---- Indices. Blocks and grids have one dimension.
RH_DEVICE uint32_t thread_index() { return threadIdx.x; }
RH_DEVICE uint32_t block_index() { return blockIdx.x; }
RH_DEVICE uint32_t block_count() { return gridDim.x; }
// A value that is equal in the whole warp, in a register that the compiler knows to be so.
RH_DEVICE uint32_t uniform(uint32_t x) { return __shfl_sync(0xffffffffu, x, 0); }

// ---- Shared memory
RH_DEVICE uint32_t smem_base() {
  extern __shared__ __align__(1024) uint8_t dynamic_smem[];
  return static_cast<uint32_t>(__cvta_generic_to_shared(dynamic_smem));
}
RH_DEVICE uint32_t lds32(uint32_t address) {
  uint32_t v;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(address));
  return v;
}
RH_DEVICE float lds32f(uint32_t address) { return __uint_as_float(lds32(address)); }
RH_DEVICE Float2 lds64f(uint32_t address) {
  Float2 v;
  asm volatile("ld.shared.v2.f32 {%0,%1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(address));
  return v;
}
RH_DEVICE Float4 lds128f(uint32_t address) {
  Float4 v;
  asm volatile("ld.shared.v4.f32 {%0,%1,%2,%3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(address));
  return v;
}
RH_DEVICE Word4 lds128(uint32_t address) {
  Word4 v;
  asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address));
  return v;
}
RH_DEVICE void sts32(uint32_t address, uint32_t v) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(v) : "memory");
}
RH_DEVICE void sts32f(uint32_t address, float v) { sts32(address, __float_as_uint(v)); }
RH_DEVICE void sts64f(uint32_t address, float x, float y) {
  asm volatile("st.shared.v2.f32 [%0], {%1,%2};" ::"r"(address), "f"(x), "f"(y) : "memory");
}
RH_DEVICE void sts128f(uint32_t address, Float4 v) {
  asm volatile("st.shared.v4.f32 [%0], {%1,%2,%3,%4};" ::"r"(address), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w)
               : "memory");
}
RH_DEVICE void sts128(uint32_t address, Word4 v) {
  asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}

// ---- Global memory. Plain loads, not ld.global.nc: the compiler may move those above griddepcontrol.wait.
RH_DEVICE uint16_t ldg16(const void* from) {
  uint16_t v;
  asm volatile("ld.global.b16 %0, [%1];" : "=h"(v) : "l"(from) : "memory");
  return v;
}
RH_DEVICE uint32_t ldg32(const void* from) {
  uint32_t v;
  asm volatile("ld.global.b32 %0, [%1];" : "=r"(v) : "l"(from) : "memory");
  return v;
}
RH_DEVICE uint64_t ldg64(const void* from) {
  uint64_t v;
  asm volatile("ld.global.b64 %0, [%1];" : "=l"(v) : "l"(from) : "memory");
  return v;
}
RH_DEVICE float ldg32f(const float* from) { return __uint_as_float(ldg32(from)); }
RH_DEVICE Float4 ldg128f(const float* from) {
  Float4 v;
  asm volatile("ld.global.v4.f32 {%0,%1,%2,%3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "l"(from)
               : "memory");
  return v;
}
RH_DEVICE Word4 ldg128(const void* from) {
  Word4 v;
  asm volatile("ld.global.v4.b32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from)
               : "memory");
  return v;
}
RH_DEVICE void stg16(void* to, uint16_t v) { asm volatile("st.global.b16 [%0], %1;" ::"l"(to), "h"(v) : "memory"); }
RH_DEVICE void stg32(void* to, uint32_t v) { asm volatile("st.global.b32 [%0], %1;" ::"l"(to), "r"(v) : "memory"); }
RH_DEVICE void stg64(void* to, uint64_t v) { asm volatile("st.global.b64 [%0], %1;" ::"l"(to), "l"(v) : "memory"); }
RH_DEVICE void stg32f(float* to, float v) { stg32(to, __float_as_uint(v)); }
RH_DEVICE void stg64f(float* to, float x, float y) {
  asm volatile("st.global.v2.f32 [%0], {%1,%2};" ::"l"(to), "f"(x), "f"(y) : "memory");
}
RH_DEVICE void stg128f(float* to, Float4 v) {
  asm volatile("st.global.v4.f32 [%0], {%1,%2,%3,%4};" ::"l"(to), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w) : "memory");
}
RH_DEVICE void stg128(void* to, Word4 v) {
  asm volatile("st.global.v4.b32 [%0], {%1,%2,%3,%4};" ::"l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}
// Return what was there.
RH_DEVICE uint32_t atomic_add(uint32_t* to, uint32_t v) { return atomicAdd(to, v); }
RH_DEVICE uint32_t atomic_or(uint32_t* to, uint32_t v) { return atomicOr(to, v); }

// ---- Warp and block
RH_DEVICE float shfl_xor(float v, int lane_mask) { return __shfl_xor_sync(0xffffffffu, v, lane_mask); }
RH_DEVICE uint32_t shfl_xor(uint32_t v, int lane_mask) { return __shfl_xor_sync(0xffffffffu, v, lane_mask); }
RH_DEVICE float shfl(float v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }
RH_DEVICE uint32_t shfl(uint32_t v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }
RH_DEVICE uint32_t ballot(bool v) { return __ballot_sync(0xffffffffu, v); }
RH_DEVICE void syncwarp() { __syncwarp(); }
RH_DEVICE void syncthreads() { __syncthreads(); }
// Barriers 1..15 for `threads` of the block, a multiple of 32; syncthreads is barrier 0 for all.
RH_DEVICE void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// ---- Bits and conversions
// Byte select; a selector nibble with bit 3 set replicates that byte's sign bit over the byte.
template <uint32_t kSelector>
RH_DEVICE uint32_t prmt(uint32_t a, uint32_t b) {
  uint32_t r;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "n"(kSelector));
  return r;
}
// The lower and the upper element of a pair as fp32, and back with round to nearest even.
template <Input kInput>
RH_DEVICE float low(uint32_t pair) {
  if constexpr (kInput == Input::bf16) return __uint_as_float(pair << 16);
  float v;
  asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(static_cast<uint16_t>(pair)));
  return v;
}
template <Input kInput>
RH_DEVICE float high(uint32_t pair) {
  if constexpr (kInput == Input::bf16) return __uint_as_float(pair & 0xffff0000u);
  return low<kInput>(pair >> 16);
}
template <Input kInput>
RH_DEVICE uint32_t pack(float low, float high) {
  uint32_t pair;
  if constexpr (kInput == Input::bf16) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  }
  return pair;
}

// ---- cp.async (sm_80)
// 16 bytes to shared memory: `valid_bytes` from `from`, which may be anything where they are 0, and zeros after them.
RH_DEVICE void cp_async16(uint32_t to, const void* from, uint32_t valid_bytes) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid_bytes)
               : "memory");
}
RH_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most kPending of this thread's groups are not complete.
template <int kPending>
RH_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// ---- Matrix operations of a warp (sm_80)
// Lane 8 i + r gives the address of row r (16 bytes) of 8x8 matrix i.
RH_DEVICE void ldmatrix_x4(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
RH_DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
// d += a b; a is 16 x 16 row-major, b 16 x 8 column-major.
template <Input kInput>
RH_DEVICE void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  if constexpr (kInput == Input::bf16) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

}  // namespace ptx

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#include "kernels/cuda/ptx_sm90.h"
#endif
#endif  // __CUDACC__

namespace ptx {

// Shared-memory matrix descriptor of wgmma with the 128-byte swizzle; offsets in bytes (PTX ISA, "Matrix descriptor").
RH_DEVICE constexpr uint64_t smem_desc_sw128(uint32_t address, uint32_t leading, uint32_t stride) {
  return (uint64_t{address & 0x3ffff} >> 4) | (uint64_t{leading >> 4} << 16) | (uint64_t{stride >> 4} << 32) |
         (uint64_t{1} << 62);
}

}  // namespace ptx
