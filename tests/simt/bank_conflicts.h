// SPDX-License-Identifier: Apache-2.0
//
// Conflicts of shared memory's banks. A GPU serves 128 bytes a cycle, 4 from each of 32 banks: accesses of a warp take
// as many cycles as different words of one bank are wanted at once. Of 8 bytes a lane, half a warp is served at once;
// of 16, and of the rows of ldmatrix, a quarter.
#pragma once

#include <cstdint>
#include <source_location>
#include <string>

namespace simt {

struct BankConflict {
  uint32_t ways = 1;   // 1: none
  std::string access;  // in words; empty if there is none
};

// Whether conflicts are looked for from now on (it is slow); forgets those found so far.
void look_for_bank_conflicts(bool look);
// Of all accesses since then.
BankConflict worst_bank_conflict();

// ---- For the wrappers. What threads of a warp do at the same place of the source, as often since they last met,
// counts as one instruction.
void note_bank_access(const char* operation, const std::source_location& place, uint32_t address, uint32_t bytes);
// Of all lanes at once.
void note_bank_accesses(const char* operation, const std::source_location& place, const uint32_t (&addresses)[32],
                        uint32_t bytes);

}  // namespace simt
