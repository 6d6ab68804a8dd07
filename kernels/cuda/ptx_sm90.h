// SPDX-License-Identifier: Apache-2.0
//
// ptx.h, continued: barriers in shared memory, bulk copies and clusters (sm_90), and wgmma (sm_90a). Included by ptx.h
// only. A source compiled for sm_90a defines RH_SM90A: no macro of the compiler tells it from sm_90 in host passes.
#pragma once

namespace ptx {

// ---- mbarrier: 8 bytes of shared memory
// A phase completes after `arrivals` and all expected bytes; the first has parity 0.
RH_DEVICE void mbar_init(uint32_t bar, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}
// Makes initialised barriers known to the asynchronous proxy and to the cluster; a block or cluster barrier follows.
RH_DEVICE void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
// One arrival, and `bytes` more to come by bulk copies.
RH_DEVICE void mbar_expect_tx(uint32_t bar, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
RH_DEVICE void mbar_arrive(uint32_t bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
// On the barrier at the same offset in another block of the cluster. Spelled without .release.cluster, which is the
// default and, written out, made ptxas 13.0 put MEMBAR.ALL.GPU in the loop.
RH_DEVICE void mbar_arrive_remote(uint32_t bar, uint32_t cluster_rank) {
  asm volatile(
      "{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}" ::"r"(bar),
      "r"(cluster_rank)
      : "memory");
}
// Whether the phase of that parity has completed.
RH_DEVICE bool mbar_try_wait(uint32_t bar, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
      : "=r"(done)
      : "r"(bar), "r"(parity)
      : "memory");
  return done != 0;
}
RH_DEVICE void mbar_wait(uint32_t bar, uint32_t parity) {
  while (!mbar_try_wait(bar, parity)) {
  }
}

// ---- Bulk copies (TMA). Their accesses to shared memory are of the asynchronous proxy: what threads have stored there
// themselves must be followed by fence_proxy_async.
RH_DEVICE void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
RH_DEVICE void prefetch_tensor_map(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
// The box at (inner, outer), elements, to shared memory; zeros outside the tensor. Completes bytes on `bar`.
RH_DEVICE void tma_load_2d(uint32_t to, const TensorMap* map, uint32_t bar, int32_t inner, int32_t outer) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::
          "r"(to),
      "l"(map), "r"(bar), "r"(inner), "r"(outer)
      : "memory");
}
// To the same offset, and on the same barrier, in each block of the cluster whose bit is set.
RH_DEVICE void tma_load_2d_multicast(uint32_t to, const TensorMap* map, uint32_t bar, int32_t inner, int32_t outer,
                                     uint16_t rank_mask) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
      "[%1, {%3, %4}], [%2], %5;" ::"r"(to),
      "l"(map), "r"(bar), "r"(inner), "r"(outer), "h"(rank_mask)
      : "memory");
}
// `bytes` (a multiple of 16) from global memory; both addresses are multiples of 16.
RH_DEVICE void bulk_load(uint32_t to, const void* from, uint32_t bytes, uint32_t bar) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(bar)
               : "memory");
}
// The box from shared memory, without what is outside the tensor.
RH_DEVICE void tma_store_2d(const TensorMap* map, uint32_t from, int32_t inner, int32_t outer) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map), "r"(from),
               "r"(inner), "r"(outer)
               : "memory");
}
RH_DEVICE void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until at most kPending of this thread's groups of stores still read shared memory (_read), or are not complete.
template <int kPending>
RH_DEVICE void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
template <int kPending>
RH_DEVICE void bulk_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kPending) : "memory");
}
// The inverse of ldmatrix_x4.
RH_DEVICE void stmatrix_x4(uint32_t address, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(r[0]), "r"(r[1]),
               "r"(r[2]), "r"(r[3])
               : "memory");
}

// ---- Clusters
RH_DEVICE uint32_t cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
RH_DEVICE void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// True in one thread of the warp.
RH_DEVICE bool elect_one() {
  uint32_t elected;
  asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}" : "=r"(elected));
  return elected != 0;
}

// ---- Programmatic dependent launch
// Until the grids before this one are complete and their writes visible; nothing of theirs is touched before.
RH_DEVICE void grid_dependency_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
// The next grid may start once all blocks have said so or ended.
RH_DEVICE void grid_dependency_launch() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

#if defined(RH_SM90A)
// ---- Warpgroups: registers a thread, 24..256 and a multiple of 8
template <uint32_t kRegisters>
RH_DEVICE void setmaxnreg_inc() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <uint32_t kRegisters>
RH_DEVICE void setmaxnreg_dec() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// ---- wgmma: d += a b, asynchronous. Accumulators and fragments are neither read nor written by anything else from
// the instruction to the wait that covers its group.
RH_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
RH_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
RH_DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
#endif

}  // namespace ptx

#if defined(RH_SM90A)
#include "kernels/cuda/wgmma.h"
#endif
