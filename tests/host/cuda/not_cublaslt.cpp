// SPDX-License-Identifier: Apache-2.0
//
// A libcublasLt.so.13 that lacks all but one function.
extern "C" __attribute__((visibility("default"))) unsigned long cublasLtGetVersion() { return 130002; }
