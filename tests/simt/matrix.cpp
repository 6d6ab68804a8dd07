// SPDX-License-Identifier: Apache-2.0
//
// Matrix instructions, by the fragment layouts of the PTX ISA. Products are added in fp32 in ascending k, so sums that
// round differ from a GPU's in the last bits; small integers are exact in both. A wgmma reads operands and fragments,
// and writes accumulators, when it is waited for, as late as it may: until then accumulators hold NaNs.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cuda/ptx.h"
#include "kernels/storage.h"
#include "tests/simt/bank_conflicts.h"
#include "tests/simt/machine.h"

namespace simt {
namespace {

float to_float(bool f16, uint32_t bits) {
  if (!f16) return __builtin_bit_cast(float, bits << 16);
  return rewardhead::kernels::to_float(rewardhead::kernels::Half{static_cast<uint16_t>(bits)});
}

// Round to nearest even, as cvt.rn does.
uint32_t to_bf16(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  if (std::isnan(x)) return 0x7fff;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
uint32_t to_f16(float x) {
  if (std::isnan(x)) return 0x7fff;
  const uint32_t sign = std::signbit(x) ? 0x8000 : 0;
  const double magnitude = std::fabs(static_cast<double>(x));
  if (magnitude >= 65520) return sign | 0x7c00;
  const int exponent = magnitude < 0x1p-14 ? -14 : std::ilogb(magnitude);
  const double steps = std::nearbyint(std::ldexp(magnitude, 10 - exponent));  // 1024 to 2048, or a subnormal's fraction
  return sign | static_cast<uint32_t>(((exponent + 15) << 10) + static_cast<int>(steps) - 1024);
}

// The 2-byte elements of a fragment register.
struct Pair {
  uint32_t low, high;
};
Pair halves(uint32_t v) { return {v & 0xffff, v >> 16}; }

template <bool kTranspose, bool kStore>
void move_matrices(const char* operation, uint32_t* registers, uint32_t address, const ptx::Place& place) {
  Warp& w = warp();
  block().at(address, 16, 16);
  if (kStore) {
    note_write(address, 16);
  } else {
    note_read(address, 16);
  }
  w.values[lane()][0] = address;
  w.results[lane()] = registers;
  meet_warp(operation, [&] {
    if (warp_threads() < 32)
      fault(Hazard::divergent_collective, "%s in a warp of %u threads", operation, warp_threads());
    uint32_t addresses[32];
    for (uint32_t i = 0; i < 32; ++i) addresses[i] = w.values[i][0];
    note_bank_accesses(operation, place, addresses, 16);
    for (uint32_t matrix = 0; matrix < 4; ++matrix) {
      for (uint32_t row = 0; row < 8; ++row) {
        uint8_t* const memory = block().at(w.values[8 * matrix + row][0], 16, 16);
        uint16_t line[8];
        std::memcpy(line, memory, sizeof line);
        for (uint32_t column = 0; column < 8; ++column) {
          const uint32_t r = kTranspose ? column : row, c = kTranspose ? row : column;
          uint32_t& to = w.results[4 * r + c / 2][matrix];
          const uint32_t shift = c % 2 * 16;
          if (kStore) {
            line[column] = static_cast<uint16_t>(to >> shift);
          } else {
            to = (to & ~(0xffffu << shift)) | uint32_t{line[column]} << shift;
          }
        }
        if (kStore) std::memcpy(memory, line, sizeof line);
      }
    }
  });
}

// ---- wgmma

struct Operand {
  uint64_t descriptor;
  bool mn_major;
  uint32_t rows;  // m or n
};

// Calls visit(address, row, k) for each run of 8 elements: along k, or along the rows where the operand is MN-major.
template <class Visit>
void for_runs(const Operand& o, const Visit& visit) {
  const uint32_t start = static_cast<uint32_t>(o.descriptor & 0x3fff) << 4;
  const uint32_t leading = static_cast<uint32_t>(o.descriptor >> 16 & 0x3fff) << 4;
  const uint32_t stride = static_cast<uint32_t>(o.descriptor >> 32 & 0x3fff) << 4;
  const auto swizzled = [](uint32_t address) { return address ^ ((address >> 7 & 7) << 4); };
  if (o.mn_major) {
    for (uint32_t k = 0; k < 16; ++k) {
      for (uint32_t row = 0; row < o.rows; row += 8) {
        visit(swizzled(start + row / 64 * leading + k / 8 * stride + k % 8 * 128 + row % 64 * 2), row, k);
      }
    }
  } else {
    for (uint32_t row = 0; row < o.rows; ++row) {
      for (uint32_t k = 0; k < 16; k += 8) visit(swizzled(start + row / 8 * stride + row % 8 * 128 + k * 2), row, k);
    }
  }
}

// values[row][k], or values[k][row] if kByK.
template <bool kByK, uint32_t kRows>
void read_operand(Block& b, const Wgmma& op, const Operand& o, float* values) {
  for_runs(o, [&](uint32_t address, uint32_t row, uint32_t k) {
    uint16_t run[8];
    std::memcpy(run, b.at(address, 16, 16), sizeof run);
    for (uint32_t i = 0; i < 8; ++i) {
      const uint32_t r = row + (o.mn_major ? i : 0), c = k + (o.mn_major ? 0 : i);
      values[kByK ? c * kRows + r : r * 16 + c] = to_float(op.f16, run[i]);
    }
  });
}

Operand operand_a(const Wgmma& op) { return {op.a, op.transpose_a, 64}; }
Operand operand_b(const Wgmma& op) { return {op.b, op.transpose_b, static_cast<uint32_t>(op.columns)}; }

void check_operand(const Wgmma& op, const Operand& o, const Warp& reader) {
  if (o.descriptor >> 62 != 1) {
    fault(Hazard::wgmma_descriptor, "descriptor %016llx is not of the 128-byte swizzle",
          static_cast<unsigned long long>(o.descriptor));
  }
  if (!o.mn_major && ((o.descriptor >> 32 & 0x3fff) << 4) % 1024) {
    fault(Hazard::wgmma_descriptor, "the stride between groups of 8 rows is no multiple of 1024 bytes");
  }
  if (op.transpose_a && op.a_in_registers) fault(Hazard::wgmma_descriptor, "fragments cannot be transposed");
  for_runs(o, [&](uint32_t address, uint32_t, uint32_t) {
    block().at(address, 16, 16);
    begin_async_read(block(), reader, address, 16);
  });
}

// What all four warps know.
const Warp& common_knowledge() {
  static Warp common;
  const Warp* const w = &block().warps[self().index / 128 * 4];
  common.agent = kNobody;
  common.view = w[0].view;
  for (int i = 1; i < 4; ++i) {
    for (size_t a = 0; a < common.view.order.size(); ++a) {
      common.view.order[a] = std::min(common.view.order[a], w[i].view.order[a]);
      common.view.fenced[a] = std::min(common.view.fenced[a], w[i].view.fenced[a]);
    }
  }
  return common;
}

Accumulators& accumulators_of(Warpgroup& g, const Wgmma& op) {
  for (Accumulators& a : g.accumulators) {
    if (a.registers[0] == op.accumulators[0]) return a;
  }
  Accumulators& made = g.accumulators.emplace_back();
  std::copy_n(op.accumulators, 128, made.registers);
  made.count = op.columns / 2;
  made.values.resize(size_t{128} * static_cast<size_t>(made.count));
  return made;
}

void issue(Warpgroup& g) {
  if (device().major != 9) {
    fault(Hazard::unsupported_instruction, "wgmma on compute capability %d.%d", device().major, device().minor);
  }
  Wgmma& op = g.staging;
  if (!g.fenced) fault(Hazard::missing_wgmma_fence, "wgmma without wgmma.fence since the last wait");
  const Warp& reader = common_knowledge();
  if (!op.a_in_registers) check_operand(op, operand_a(op), reader);
  check_operand(op, operand_b(op), reader);
  Accumulators& acc = accumulators_of(g, op);
  const size_t count = static_cast<size_t>(acc.count);
  if (acc.in_flight++ == 0) {
    for (size_t t = 0; t < 128; ++t) {
      std::copy_n(op.accumulators[t], count, acc.values.data() + t * count);
      std::fill_n(op.accumulators[t], count, __builtin_bit_cast(float, kInFlight));
    }
  }
  g.open.push_back(op);
}

void multiply(Block& b, Warpgroup& g, const Wgmma& op) {
  static float a[64][16], rows[16 * 256];
  if (op.a_in_registers) {
    for (uint32_t t = 0; t < 128; ++t) {
      if (std::memcmp(op.fragments[t], op.fragment_values[t], sizeof op.fragment_values[t])) {
        fault(Hazard::wgmma_in_flight, "thread %u of the warpgroup rewrote a fragment that wgmma reads", t);
      }
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t row = t / 32 * 16 + t % 32 / 4 + 8 * (i & 1), k = t % 4 * 2 + 8 * (i >> 1);
        a[row][k] = to_float(op.f16, halves(op.fragments[t][i]).low);
        a[row][k + 1] = to_float(op.f16, halves(op.fragments[t][i]).high);
      }
    }
  } else {
    read_operand<false, 64>(b, op, operand_a(op), &a[0][0]);
  }
  read_operand<true, 256>(b, op, operand_b(op), rows);
  if (device().faulting_wgmma) fault(Hazard::unsupported_instruction, "wgmma, at which this device is to fault");
  Accumulators& acc = accumulators_of(g, op);
  const int columns = op.columns;
  for (uint32_t row = 0; row < 64; ++row) {
    float sums[256] = {};
    for (uint32_t k = 0; k < 16; ++k) {
      const float factor = a[row][k];
      const float* const from = rows + k * 256;
      for (int n = 0; n < columns; ++n) sums[n] += factor * from[n];
    }
    if (row == 11 && device().broken_wgmma) sums[5] += 1;
    const size_t thread = row / 16 * 32 + row % 8 * 4, half = row % 16 / 8 * 2;
    for (size_t n = 0; n < static_cast<size_t>(columns); ++n) {
      acc.values[(thread + n % 8 / 2) * static_cast<size_t>(acc.count) + n / 8 * 4 + half + n % 2] += sums[n];
    }
  }
}

void complete(Block& b, Warpgroup& g, const Wgmma& op) {
  multiply(b, g, op);
  const auto end_reads = [&](const Operand& o) {
    for_runs(o, [&](uint32_t address, uint32_t, uint32_t) { end_async_read(b, g.agent, g.tick, address, 16); });
  };
  if (!op.a_in_registers) end_reads(operand_a(op));
  end_reads(operand_b(op));
  Accumulators& acc = accumulators_of(g, op);
  if (--acc.in_flight > 0) return;
  const size_t count = static_cast<size_t>(acc.count);
  for (size_t t = 0; t < 128; ++t) {
    for (size_t i = 0; i < count; ++i) {
      if (__builtin_bit_cast(uint32_t, acc.registers[t][i]) != kInFlight) {
        fault(Hazard::wgmma_in_flight, "thread %zu of the warpgroup wrote an accumulator before the wait", t);
      }
    }
    std::copy_n(acc.values.data() + t * count, count, acc.registers[t]);
  }
}

}  // namespace

void check_value(float value) {
  if ((__builtin_bit_cast(uint32_t, value) & 0x7fffffff) == kInFlight) {
    fault(Hazard::wgmma_in_flight, "a value comes from an accumulator that wgmma has not finished");
  }
}

void check_no_wgmma_left() {
  for (const Warpgroup& g : block().warpgroups) {
    if (!g.open.empty() || !g.groups.empty()) {
      if (&g == &warpgroup())
        fault(Hazard::unfinished_copy, "the warpgroup ends with wgmma that it has not waited for");
    }
  }
}

}  // namespace simt

namespace ptx {

using namespace simt;

float low(Input input, uint32_t pair) { return to_float(input == Input::f16, pair & 0xffff); }
uint32_t pack(Input input, float low, float high) {
  check_value(low), check_value(high);
  return input == Input::f16 ? to_f16(low) | to_f16(high) << 16 : to_bf16(low) | to_bf16(high) << 16;
}

void ldmatrix_x4(uint32_t (&r)[4], uint32_t address, const Place& place) {
  move_matrices<false, false>("ldmatrix", r, address, place);
}
void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t address, const Place& place) {
  move_matrices<true, false>("ldmatrix.trans", r, address, place);
}
void stmatrix_x4(uint32_t address, const uint32_t (&r)[4], const Place& place) {
  need_capability(9, "stmatrix");
  move_matrices<false, true>("stmatrix", const_cast<uint32_t*>(r), address, place);
}

void mma_m16n8k16(Input input, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Warp& w = warp();
  for (const float v : d) check_value(v);
  std::memcpy(w.values[lane()], a, sizeof a);
  w.values[lane()][4] = b0;
  w.values[lane()][5] = b1;
  w.accumulators[lane()] = d;
  meet_warp(input == Input::f16 ? "mma.f16" : "mma.bf16", [&] {
    if (warp_threads() < 32) fault(Hazard::divergent_collective, "mma in a warp of %u threads", warp_threads());
    const bool f16 = input == Input::f16;
    float rows[16][16], columns[16][8];
    for (uint32_t t = 0; t < 32; ++t) {
      for (uint32_t i = 0; i < 4; ++i) {
        const Pair p = halves(w.values[t][i]);
        const uint32_t row = t / 4 + 8 * (i & 1), k = t % 4 * 2 + 8 * (i >> 1);
        rows[row][k] = to_float(f16, p.low);
        rows[row][k + 1] = to_float(f16, p.high);
      }
      for (uint32_t i = 0; i < 2; ++i) {
        const Pair p = halves(w.values[t][4 + i]);
        const uint32_t k = t % 4 * 2 + 8 * i;
        columns[k][t / 4] = to_float(f16, p.low);
        columns[k + 1][t / 4] = to_float(f16, p.high);
      }
    }
    if (device().faulting_mma) fault(Hazard::unsupported_instruction, "mma, at which this device is to fault");
    for (uint32_t row = 0; row < 16; ++row) {
      float sums[8] = {};
      for (uint32_t k = 0; k < 16; ++k) {
        for (uint32_t n = 0; n < 8; ++n) sums[n] += rows[row][k] * columns[k][n];
      }
      if (row == 11 && device().broken_mma) sums[0] += 1;
      for (uint32_t n = 0; n < 8; ++n) w.accumulators[row % 8 * 4 + n / 2][row / 8 * 2 + n % 2] += sums[n];
    }
  });
}

void wgmma_fence() {
  meet_warpgroup("wgmma.fence", [] { warpgroup().fenced = true; });
}
void wgmma_commit() {
  meet_warpgroup("wgmma.commit_group", [] {
    warpgroup().groups.push_back(std::move(warpgroup().open));
    warpgroup().open.clear();
  });
}
void wgmma_wait(int pending) {
  meet_warpgroup("wgmma.wait_group", [pending] {
    Warpgroup& g = warpgroup();
    while (g.groups.size() > static_cast<size_t>(pending)) {
      for (const Wgmma& op : g.groups.front()) complete(block(), g, op);
      g.groups.erase(g.groups.begin());
    }
    g.fenced = false;
    if (g.groups.empty() && g.open.empty()) g.accumulators.clear();
    for (uint32_t i = 0; i < 4; ++i) block().warps[self().index / 128 * 4 + i].view.order[g.agent] = g.tick;
    ++g.tick;
  });
}
void wgmma(Input input, int columns, float* d, const uint32_t* fragments, uint64_t a, bool transpose_a, uint64_t b,
           bool transpose_b) {
  Wgmma& op = warpgroup().staging;
  const uint32_t t = self().index % 128;
  op.accumulators[t] = d;
  op.fragments[t] = fragments;
  if (fragments) std::copy_n(fragments, 4, op.fragment_values[t]);
  meet_warpgroup("wgmma", [&] {
    op.columns = columns;
    op.f16 = input == Input::f16;
    op.a_in_registers = fragments != nullptr;
    op.transpose_a = transpose_a;
    op.transpose_b = transpose_b;
    op.a = a;
    op.b = b;
    issue(warpgroup());
  });
}

}  // namespace ptx
