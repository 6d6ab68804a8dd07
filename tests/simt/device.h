// SPDX-License-Identifier: Apache-2.0
//
// Which GPU the software device passes for.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simt {

struct Launch;

// What a multiprocessor has.
struct Limits {
  uint32_t shared_per_block, shared_per_multiprocessor, shared_reserved_per_block = 1024;
  uint32_t threads_per_block = 1024, threads_per_multiprocessor, blocks_per_multiprocessor;
  uint32_t registers_per_multiprocessor = 65536, cluster_blocks;
};

struct Device {
  int major = 9, minor = 0;
  int multiprocessors = 4;  // few, so that small problems fill several waves
  int count = 1;            // of devices; with 0, as without a driver
  bool old_driver = false;  // one of CUDA 12.4, with which nothing of 13 works
  size_t memory_bytes = size_t{16} << 30;  // all of it can be allocated, by cudaMalloc
  // Instructions of a card that computes wrongly, or that a kernel misunderstands: one element of each result is one
  // too large. For tests of who notices.
  bool broken_mma = false, broken_wgmma = false, broken_shuffle = false, broken_cublaslt = false;
  // Instructions at which a kernel ends with cudaErrorLaunchFailure, which sticks.
  bool faulting_mma = false, faulting_wgmma = false, faulting_shuffle = false;
  bool no_cublaslt = false;  // its library is there and cannot be used, as with a driver that is too old
};

const Device& device();
// 7.5, 8.0, 8.6, 8.7, 8.9, 9.0, 10.x, 12.x; others throw std::invalid_argument. At start: the default, or with as much
// memory and as many devices as the environment says: SIMT_MEMORY=bytes, SIMT_DEVICES=n.
void set_device(const Device& device);
const Limits& limits();

// How many blocks of such a launch fit a multiprocessor.
uint32_t blocks_per_multiprocessor(const Launch& launch);

}  // namespace simt
