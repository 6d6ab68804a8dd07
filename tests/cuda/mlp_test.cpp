// SPDX-License-Identifier: Apache-2.0
//
// The MLP head on a device, alone and as an ensemble: exact on small integers, which are exact in one plane too, and
// within an error bound on random data; tails, storage types, alignment, NaN in what is never read.
#include <cmath>

#include "kernels/cuda/mask.h"
#include "kernels/reference/reference.h"
#include "tests/cuda/head.h"

namespace rewardhead::kernels::cuda::testing {
namespace {

struct MlpCase {
  Sizes sizes;
  int64_t members = 1;
  int planes = 2;
  int multiprocessors = 1;  // 1: no sum is split
  int64_t spare_rows = 0;   // that the plan has room for
  bool wgmma = false;
};

MlpPlan plan_of(const MlpCase& c) {
  const Sizes& s = c.sizes;
  return {s.rows + c.spare_rows, s.input, s.hidden, c.members, s.dtype, c.planes, true, c.multiprocessors,
          c.wgmma};
}

struct MlpResults {
  HeadResults head;
  std::vector<std::vector<uint64_t>> mask;  // of each member, as the CPU has it; bits of rows past the last are 0
};
bool same_results(const MlpResults& a, const MlpResults& b) { return same_results(a.head, b.head) && a.mask == b.mask; }

std::vector<uint64_t> host_mask(const std::vector<uint32_t>& words, const MlpCase& c, int64_t member) {
  const Sizes& s = c.sizes;
  std::vector<uint64_t> mask(mask_blocks(s.rows) * s.hidden);
  const int64_t member_blocks = (s.hidden + 63) / 64, row_blocks = (s.rows + 255) / 256 * 16;
  for (int64_t row = 0; row < s.rows; ++row) {
    for (int64_t h = 0; h < s.hidden; ++h) {
      const int m = static_cast<int>(row % 16), column = static_cast<int>(h % 64);
      const int64_t block = (member * member_blocks + h / 64) * row_blocks + row / 16;
      const uint32_t word = words[block * 32 + 4 * (m % 8) + column % 8 / 2];
      const uint64_t bit = word >> mask_bit(column / 8, 2 * (m / 8) + column % 2) & 1;
      mask[row / kMaskRows * s.hidden + h] |= bit << (row % kMaskRows);
    }
  }
  return mask;
}

MlpResults run(const MlpCase& c, const Ensemble& ensemble, int64_t offset) {
  const MlpPlan plan = plan_of(c);
  const DeviceHead head(ensemble.view(), offset);
  Array<uint32_t> mask(static_cast<int64_t>(mlp_mask_bytes(plan) / 4));
  uint64_t* const mask_pointer = reinterpret_cast<uint64_t*>(mask.data());
  {
    Array<unsigned char> workspace(static_cast<int64_t>(mlp_forward_workspace(plan)));
    check(mlp_forward(plan, {head.x(), c.sizes.hidden, head.head(), head.rewards().data(), mask_pointer, c.members},
                      workspace.data(), stream()));
  }
  {
    Array<unsigned char> workspace(static_cast<int64_t>(mlp_backward_workspace(plan)));
    check(mlp_backward(plan, {head.x(), c.sizes.hidden, head.head(), mask_pointer, head.reward_gradient().data(),
                              head.gradient(), head.dx().data(), head.dx_stride(), c.members},
                       workspace.data(), stream()));
  }
  MlpResults results = {HeadResults(head), {}};
  const std::vector<uint32_t> words = mask.values();
  for (int64_t member = 0; member < c.members; ++member) results.mask.push_back(host_mask(words, c, member));
  return results;
}

std::ostream& operator<<(std::ostream& out, const MlpCase& c) {
  return out << c.sizes << " members " << c.members << " planes " << c.planes << " multiprocessors "
             << c.multiprocessors << (c.wgmma ? " wgmma" : "");
}

// Kernels of sm90/ run on compute capability 9.0 only, which the software device has.
bool can_run(const MlpCase& c) { return !c.wgmma || capability() == 90; }

void expect_exact(const MlpCase& c, Random& random) {
  if (!can_run(c)) return;
  SCOPED_TRACE(::testing::Message() << c);
  const Ensemble ensemble(c.sizes, c.members, random, integer_problem);
  const int64_t offset = draw(random, 0, 1);
  const MlpResults results = run(c, ensemble, offset);
  if (draw(random, 0, 7) == 0) {
    ASSERT_TRUE(same_results(run(c, ensemble, 1 - offset), results)) << "at another address";
  }
  std::vector<double> dx(c.sizes.rows * c.sizes.input);
  for (int64_t member = 0; member < c.members; ++member) {
    const Expected expected(*ensemble.problems[member], nullptr, false);
    const HeadResults one = results.head.member(member, c.members);
    ASSERT_EQ(results.mask[member], expected.mask) << "member " << member;
    expect_exact_tensor("rewards", one.rewards, expected.rewards);
    expect_exact_tensor("dw1", one.gradient[0], expected.gradient.w1);
    expect_exact_tensor("db1", one.gradient[1], expected.gradient.b1);
    expect_exact_tensor("dw2", one.gradient[2], expected.gradient.w2);
    expect_exact_tensor("db2", one.gradient[3], expected.gradient.b2);
    for (size_t i = 0; i < dx.size(); ++i) dx[i] += expected.dx[i];
  }
  expect_exact_tensor("dx", dense_dx(results.head.dx, c.sizes), dx);
}

// Tails of tiles in every dimension; both the whole sum and its parts; X as it lies and packed.
TEST_P(DeviceTest, MlpExact) {
  Random random(51);
  int turn = 0;
  for (const int64_t rows : {1, 17, 128, 300}) {
    for (const int64_t input : {1, 8, 33, 136, 197}) {
      for (const int64_t hidden : {1, 64, 72, 330}) {
        ++turn;
        if (!takes(turn)) continue;
        const Sizes sizes = {rows, input, hidden, kDtypes[turn / 3 % 3], turn % 2 ? (8 - input % 8) % 8 : turn % 5, turn % 3};
        for (const bool wgmma : {false, true}) {
          expect_exact({sizes, 1, 1 + turn / 9 % 3, turn % 2 ? 132 : 1, turn % 7, wgmma}, random);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_P(DeviceTest, MlpExactEnsemble) {
  Random random(52);
  for (const MlpCase& c : {MlpCase{{40, 20, 8}, 5, 1, 1}, MlpCase{{130, 72, 70, Dtype::bf16, 8, 1}, 3, 2, 132},
                           MlpCase{{17, 40, 64, Dtype::f16}, 4, 1, 1},
                           MlpCase{{40, 20, 8}, 5, 2, 1, 0, true},
                           MlpCase{{130, 72, 70, Dtype::bf16, 8, 1}, 3, 1, 132, 9, true}}) {
    expect_exact(c, random);
    if (HasFatalFailure()) return;
  }
}

// With u the unit roundoff of an operand's type, n planes leave at most u^n of it, and n - 1 products of planes of the
// size of u^n are left out. Where both operands are rounded that is (n + 1) u^n. Then 2 u of fp32 for each product that
// a tensor core adds, since it may truncate.
double plane_error(const MlpCase& c) {
  const double unit = c.planes == 1 && c.sizes.dtype == Dtype::f16 ? 0x1p-11 : 0x1p-8;
  return (c.planes + 1) * std::pow(unit, c.planes);
}

void expect_accurate(const MlpCase& c, Random& random) {
  if (!can_run(c)) return;
  SCOPED_TRACE(::testing::Message() << c);
  const Sizes& s = c.sizes;
  const Ensemble ensemble(c.sizes, c.members, random, normal_problem);
  const MlpResults results = run(c, ensemble, 0);
  ASSERT_TRUE(same_results(run(c, ensemble, 0), results)) << "differs from run to run";
  std::vector<double> dx(s.rows * s.input), dx_magnitude(s.rows * s.input);
  for (int64_t member = 0; member < c.members; ++member) {
    const Problem& p = *ensemble.problems[member];
    const HeadResults one = results.head.member(member, c.members);
    const Expected expected(p, results.mask[member].data(), false), magnitude(p, results.mask[member].data(), true);
    const double forward_bound = plane_error(c) + static_cast<double>(2 * (s.input + s.hidden + 32)) * 0x1p-24;
    expect_tensor("rewards", one.rewards, expected.rewards,
                  [&](int64_t i) { return forward_bound * magnitude.rewards[i]; });
    const auto within = [&](const char* name, int tensor, const auto& exact, const auto& scale, int64_t chain) {
      const double bound = plane_error(c) + static_cast<double>(2 * chain) * 0x1p-24;
      expect_tensor(name, one.gradient[tensor], exact, [&](int64_t i) { return bound * *(scale.begin() + i); });
    };
    within("dw1", 0, expected.gradient.w1, magnitude.gradient.w1, s.rows + 16);
    within("db1", 1, expected.gradient.b1, magnitude.gradient.b1, s.rows + 16);
    within("dw2", 2, expected.gradient.w2, magnitude.gradient.w2, s.rows + s.input + 16);
    within("db2", 3, expected.gradient.b2, magnitude.gradient.b2, 2);
    for (size_t i = 0; i < dx.size(); ++i) {
      dx[i] += expected.dx[i];
      dx_magnitude[i] += magnitude.dx[i];
    }
    // A bit may differ from the exact one only where |z| is within its own bound.
    for (int64_t row = 0; row < s.rows; ++row) {
      for (int64_t h = 0; h < s.hidden; ++h) {
        double z = p.head.b1[h], scale = std::abs(z);
        for (int64_t k = 0; k < s.input; ++k) {
          const double product = static_cast<double>(p.get_x(row, k)) * p.head.w1[h * s.input + k];
          z += product;
          scale += std::abs(product);
        }
        if (std::abs(z) <= forward_bound * scale) continue;
        ASSERT_EQ(reference::is_active(results.mask[member].data(), s.hidden, row, h), z > 0) << row << ' ' << h;
      }
    }
  }
  const double bound = plane_error(c) + static_cast<double>(2 * (s.hidden + c.members + 16)) * 0x1p-24;
  expect_tensor("dx", dense_dx(results.head.dx, s), dx, [&](int64_t i) { return bound * dx_magnitude[i]; });
}

TEST_P(DeviceTest, MlpWithinTheErrorBound) {
  Random random(53);
  int turn = 0;
  for (int planes = 1; planes <= 3; ++planes) {
    for (const Dtype dtype : kDtypes) {
      for (const MlpCase& c :
           {MlpCase{{150, 197, 130, dtype}, 1, planes, 1}, MlpCase{{70, 328, 72, dtype, 8}, 1, planes, 132},
            MlpCase{{33, 60, 20, dtype}, 3, planes, 1}, MlpCase{{150, 197, 130, dtype}, 1, planes, 1, 0, true},
            MlpCase{{70, 328, 72, dtype, 8}, 2, planes, 132, 0, true}}) {
        if (takes(turn++)) expect_accurate(c, random);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// A NaN or an infinity in a row of X stays in that row.
TEST_P(DeviceTest, MlpKeepsNanInItsRow) {
  Random random(54);
  for (const Dtype dtype : kDtypes) {
    const MlpCase c = {{140, 60, 70, dtype}, 1, 2, 1, 0, dtype == Dtype::f32 && capability() == 90};
    Ensemble ensemble(c.sizes, c.members, random, integer_problem);
    ensemble.problems[0]->set_x(20, 33, std::numeric_limits<float>::quiet_NaN());
    const MlpResults results = run(c, ensemble, 0);
    for (int64_t row = 0; row < 140; ++row) EXPECT_EQ(std::isnan(results.head.rewards[row]), row == 20);
    for (const float dx : results.head.dx) EXPECT_FALSE(std::isnan(dx));  // whose row has a NaN in X only
  }
}

constexpr const char* kNeedsWgmma = "kernels of sm90/ need compute capability 9.0";

// Sizes around tiles, small in other dimensions; gaps that keep rows aligned and gaps that do not.
class GeneratedMlp : public GeneratedTest {
 protected:
  MlpCase draw_case(bool wgmma) {
    MlpCase c;
    Sizes& s = c.sizes;
    s.rows = draw_of({{1, 40}, {120, 135}, {250, 264}});
    s.input = draw_of({{1, 40}, {60, 70}, {120, 136}, {250, 260}});
    s.hidden = draw_of({{1, 20}, {60, 70}, {120, 136}, {250, 260}});
    s.dtype = kDtypes[draw(random, 0, 2)];
    s.x_gap = one_in(2) ? (8 - s.input % 8) % 8 : draw(random, 0, 9);
    s.dx_gap = draw(random, 0, 3);
    c.members = one_in(3) ? draw(random, 2, 3) : 1;
    c.planes = static_cast<int>(draw(random, 1, 3));
    c.multiprocessors = one_in(2) ? 132 : static_cast<int>(draw(random, 1, 5));
    c.spare_rows = one_in(3) ? draw(random, 1, 200) : 0;
    c.wgmma = wgmma;
    return c;
  }
};
TEST_P(GeneratedMlp, Sm80Exact) { expect_exact(draw_case(false), random); }
TEST_P(GeneratedMlp, Sm80WithinTheErrorBound) { expect_accurate(draw_case(false), random); }
TEST_P(GeneratedMlp, Sm90aExact) {
  if (capability() != 90) GTEST_SKIP() << kNeedsWgmma;
  expect_exact(draw_case(true), random);
}
TEST_P(GeneratedMlp, Sm90aWithinTheErrorBound) {
  if (capability() != 90) GTEST_SKIP() << kNeedsWgmma;
  expect_accurate(draw_case(true), random);
}
RH_GENERATE(GeneratedMlp, 120);

}  // namespace
}  // namespace rewardhead::kernels::cuda::testing
