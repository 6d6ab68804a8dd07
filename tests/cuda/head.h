// SPDX-License-Identifier: Apache-2.0
//
// A problem of tests/kernels/problem.h on the device.
#pragma once

#include <memory>

#include "kernels/cuda/launchers.h"
#include "tests/cuda/device.h"
#include "tests/kernels/problem.h"

namespace rewardhead::kernels::cuda::testing {

using kernels::testing::dtype_name;
using kernels::testing::element_bytes;
using kernels::testing::Expected;
using kernels::testing::kDtypes;
using kernels::testing::Problem;
using kernels::testing::Sizes;

// X, parameters and dr small integers, of which no sum rounds; two in three of W1 and of b1 and every fifth row of X are
// 0: z = 0 occurs at one place in ten.
inline Problem integer_problem(const Sizes& sizes, Random& random) {
  Problem p(sizes);
  p.fill([&](int64_t row, int64_t) { return row % 5 == 2 ? 0.0 : static_cast<double>(draw(random, -2, 2)); },
         [&] { return static_cast<double>(draw(random, -2, 2)); });
  for (float& w : p.head.w1) w = draw(random, 0, 2) ? 0.0f : w;
  for (float& b : p.head.b1) b = draw(random, 0, 2) ? b : 0.0f;
  return p;
}

inline Problem normal_problem(const Sizes& sizes, Random& random) {
  std::normal_distribution<double> normal;
  Problem p(sizes);
  p.fill([&](int64_t, int64_t) { return normal(random); }, [&] { return normal(random); });
  return p;
}

// Members over the X of the first.
struct Ensemble {
  template <class Make>
  Ensemble(const Sizes& sizes, int64_t members, Random& random, const Make& make) {
    for (int64_t i = 0; i < members; ++i) {
      problems.push_back(std::make_unique<Problem>(make(sizes, random)));
      if (i > 0) std::copy(problems[0]->x.begin(), problems[0]->x.end(), problems[i]->x.begin());
    }
  }
  std::vector<const Problem*> view() const {
    std::vector<const Problem*> pointers;
    for (const auto& problem : problems) pointers.push_back(problem.get());
    return pointers;
  }
  std::vector<std::unique_ptr<Problem>> problems;
};

// Everything that one forward and one backward of members over the same X read and write. `offset`: elements of X and of
// the other tensors behind what cudaMalloc aligned.
class DeviceHead {
 public:
  DeviceHead(const std::vector<const Problem*>& members, int64_t offset)
      : sizes(members[0]->sizes),
        stride_(members[0]->x_stride),
        x_(Array<unsigned char>::of(members[0]->x, offset * element_bytes(sizes.dtype))) {
    std::vector<float> tensors[4], dr;
    for (const Problem* p : members) {
      int i = 0;
      p->head.each([&](const char*, const auto& tensor) {
        tensors[i].insert(tensors[i].end(), tensor.begin(), tensor.end());
        ++i;
      });
      dr.insert(dr.end(), p->reward_gradient.begin(), p->reward_gradient.end());
    }
    for (const std::vector<float>& tensor : tensors) {
      head_.push_back(tensor.empty() ? Array<float>(0, offset) : Array<float>::of(tensor, offset));
      gradient_.emplace_back(std::ssize(tensor), offset);
    }
    reward_gradient_.push_back(Array<float>::of(dr, offset));
    rewards_.emplace_back(std::ssize(dr), offset);
    dx_.emplace_back((sizes.rows - 1) * dx_stride() + sizes.input, offset);
  }

  Matrix x() const { return {x_.data(), sizes.dtype, sizes.rows, sizes.input, stride_}; }
  HeadTensors<const float> head() const {
    const HeadTensors<float> v = view(head_);
    return {v.w1, v.b1, v.w2, v.b2};
  }
  HeadTensors<float> gradient() const { return view(gradient_); }
  const Array<float>& gradient(int tensor) const { return gradient_[tensor]; }  // w1, b1, w2, b2
  const Array<float>& reward_gradient() const { return reward_gradient_[0]; }
  const Array<float>& rewards() const { return rewards_[0]; }
  const Array<float>& dx() const { return dx_[0]; }
  int64_t dx_stride() const { return sizes.input + sizes.dx_gap; }

  const Sizes sizes;

 private:
  HeadTensors<float> view(const std::vector<Array<float>>& arrays) const {
    if (sizes.hidden == 0) return {arrays[0].data(), nullptr, nullptr, nullptr};
    return {arrays[0].data(), arrays[1].data(), arrays[2].data(), arrays[3].data()};
  }

  int64_t stride_;
  Array<unsigned char> x_;
  std::vector<Array<float>> head_, gradient_, reward_gradient_, rewards_, dx_;
};

// What came out, on the host: of all members, or of one.
struct HeadResults {
  explicit HeadResults(const DeviceHead& head) : rewards(head.rewards().values()), dx(head.dx().values()) {
    for (int i = 0; i < 4; ++i) gradient.push_back(head.gradient(i).values());
  }
  HeadResults member(int64_t index, int64_t members) const {
    HeadResults one = *this;
    one.rewards = member_part(rewards, index, members);
    for (auto& tensor : one.gradient) tensor = member_part(tensor, index, members);
    return one;
  }
  std::vector<float> rewards, dx;
  std::vector<std::vector<float>> gradient;
};
inline bool same_results(const HeadResults& a, const HeadResults& b) {
  bool same = same_bits(a.rewards, b.rewards) && same_bits(a.dx, b.dx);
  for (size_t i = 0; i < a.gradient.size(); ++i) same = same && same_bits(a.gradient[i], b.gradient[i]);
  return same;
}

// |actual - expected| <= bound(i), or both NaN.
template <class Expected, class Bound>
void expect_tensor(const char* name, const std::vector<float>& actual, const Expected& expected, const Bound& bound) {
  ASSERT_EQ(std::ssize(actual), std::ssize(expected)) << name;
  for (int64_t i = 0; i < std::ssize(actual); ++i) {
    const double wanted = *(expected.begin() + i), got = actual[i];
    if (std::abs(got - wanted) <= bound(i) || (std::isnan(wanted) && std::isnan(got))) continue;
    FAIL() << name << '[' << i << "] is " << got << "; expected " << wanted << " within " << bound(i);
  }
}

inline void expect_exact_tensor(const char* name, const std::vector<float>& actual, const auto& expected) {
  expect_tensor(name, actual, expected, [](int64_t) { return 0.0; });
}

// dX without what lies between its rows, where nothing may have been written.
inline std::vector<float> dense_dx(const std::vector<float>& dx, const Sizes& s) {
  std::vector<float> dense;
  for (int64_t row = 0; row < s.rows; ++row) {
    const auto from = dx.begin() + row * (s.input + s.dx_gap);
    dense.insert(dense.end(), from, from + s.input);
    for (int64_t gap = 0; gap < s.dx_gap && row + 1 < s.rows; ++gap) {
      EXPECT_EQ(std::bit_cast<uint32_t>(from[s.input + gap]), ~0u) << "written between the rows of dx";
    }
  }
  return dense;
}

}  // namespace rewardhead::kernels::cuda::testing
