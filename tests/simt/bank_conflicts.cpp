// SPDX-License-Identifier: Apache-2.0
#include "tests/simt/bank_conflicts.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "tests/simt/machine.h"

namespace simt {
namespace {

struct Access {
  const char* operation = nullptr;
  std::source_location place;
  uint32_t bytes = 0;
  uint32_t lanes = 0;  // a bit each
  uint32_t addresses[32] = {};
};
// Within one program a header's name may have several addresses, within one kernel it has one.
using PlaceKey = std::tuple<const char*, uint32_t, uint32_t>;
PlaceKey key_of(const std::source_location& place) { return {place.file_name(), place.line(), place.column()}; }
struct Turn {  // of a thread at a place
  uint32_t launch = 0, block = 0, meetings = 0, times = 0;
};

// By launch, block, warp, place, meetings of the threads before, and times since.
using Key = std::tuple<uint32_t, uint32_t, uint32_t, PlaceKey, uint32_t, uint32_t>;
constexpr size_t kMostOpen = 1 << 16;

bool looks = false;
BankConflict worst;
std::map<Key, Access> open;
std::map<std::pair<uint32_t, PlaceKey>, Turn> turns;  // by thread of the cluster

void remember(const Access& access, uint32_t first, uint32_t at_once, uint32_t ways) {
  char text[32];
  std::string file = access.place.file_name();
  file.erase(0, file.rfind('/') + 1);
  std::snprintf(text, sizeof text, ":%u: ", static_cast<unsigned>(access.place.line()));
  worst.ways = ways;
  worst.access = file + text + std::to_string(ways) + "-way " + access.operation + " of " +
                 std::to_string(access.bytes) + " bytes a lane by lanes";
  for (uint32_t i = first; i < first + at_once; ++i) {
    if (!(access.lanes >> i & 1)) continue;
    std::snprintf(text, sizeof text, " %u: 0x%x", i, access.addresses[i]);
    worst.access += text;
  }
}

void judge(const Access& access) {
  const uint32_t at_once = 128 / access.bytes;
  for (uint32_t first = 0; first < 32; first += at_once) {
    std::set<uint32_t> words[32];  // of each bank
    for (uint32_t i = first; i < first + at_once; ++i) {
      if (!(access.lanes >> i & 1)) continue;
      for (uint32_t byte = 0; byte < access.bytes; byte += 4) {
        const uint32_t word = (access.addresses[i] + byte) / 4;
        words[word % 32].insert(word);
      }
    }
    for (const std::set<uint32_t>& bank : words) {
      if (bank.size() > worst.ways) remember(access, first, at_once, static_cast<uint32_t>(bank.size()));
    }
  }
}

void judge_all() {
  for (const auto& [key, access] : open) judge(access);
  open.clear();
}

}  // namespace

void look_for_bank_conflicts(bool look) {
  looks = look;
  worst = {};
  open.clear();
  turns.clear();
}

BankConflict worst_bank_conflict() {
  judge_all();
  return worst;
}

void note_bank_access(const char* operation, const std::source_location& place, uint32_t address, uint32_t bytes) {
  if (!looks) return;
  const uint32_t launch = machine().launch_number, block_index = block().index, meetings = self().meetings;
  Turn& turn = turns[{machine().current, key_of(place)}];
  if (turn.launch != launch || turn.block != block_index || turn.meetings != meetings) {
    turn = {launch, block_index, meetings, 0};
  }
  if (open.size() >= kMostOpen) judge_all();
  Access& access = open[{launch, block_index, self().index / 32, key_of(place), meetings, turn.times++}];
  access.operation = operation;
  access.place = place;
  access.bytes = bytes;
  access.lanes |= 1u << lane();
  access.addresses[lane()] = address;
}

void note_bank_accesses(const char* operation, const std::source_location& place, const uint32_t (&addresses)[32],
                        uint32_t bytes) {
  if (!looks) return;
  Access access = {operation, place, bytes, 0xffffffff, {}};
  std::copy(std::begin(addresses), std::end(addresses), access.addresses);
  judge(access);
}

}  // namespace simt
