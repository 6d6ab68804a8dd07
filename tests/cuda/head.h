// SPDX-License-Identifier: Apache-2.0
//
// A problem of tests/kernels/problem.h on the device.
#pragma once

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

// Everything that one forward and one backward read and write. `offset`: elements of X and of the other tensors behind
// what cudaMalloc aligned.
class DeviceHead {
 public:
  DeviceHead(const Problem& p, int64_t offset)
      : sizes(p.sizes),
        stride_(p.x_stride),
        x_(Array<unsigned char>::of(p.x, offset * element_bytes(p.sizes.dtype))),
        head_(tensors(p.head, offset)),
        reward_gradient(Array<float>::of(p.reward_gradient, offset)),
        rewards(p.sizes.rows, offset),
        gradient_(tensors_like(p.head, offset)),
        dx((p.sizes.rows - 1) * dx_stride() + p.sizes.input, offset) {}

  Matrix x() const { return {x_.data(), sizes.dtype, sizes.rows, sizes.input, stride_}; }
  HeadTensors<const float> head() const {
    const HeadTensors<float> v = view(head_);
    return {v.w1, v.b1, v.w2, v.b2};
  }
  HeadTensors<float> gradient() const { return view(gradient_); }
  const Array<float>& gradient(int tensor) const { return gradient_[tensor]; }  // w1, b1, w2, b2
  int64_t dx_stride() const { return sizes.input + sizes.dx_gap; }

  Sizes sizes;

 private:
  static std::vector<Array<float>> tensors(const kernels::testing::Tensors<float>& from, int64_t offset) {
    std::vector<Array<float>> arrays;
    from.each([&](const char*, const auto& tensor) {
      arrays.push_back(tensor.size() ? Array<float>::of(tensor, offset) : Array<float>(0, offset));
    });
    return arrays;
  }
  static std::vector<Array<float>> tensors_like(const kernels::testing::Tensors<float>& from, int64_t offset) {
    std::vector<Array<float>> arrays;
    from.each([&](const char*, const auto& tensor) { arrays.emplace_back(tensor.size(), offset); });
    return arrays;
  }
  HeadTensors<float> view(const std::vector<Array<float>>& arrays) const {
    if (sizes.hidden == 0) return {arrays[0].data(), nullptr, nullptr, nullptr};
    return {arrays[0].data(), arrays[1].data(), arrays[2].data(), arrays[3].data()};
  }

  int64_t stride_;
  Array<unsigned char> x_;
  std::vector<Array<float>> head_;

 public:
  Array<float> reward_gradient, rewards;

 private:
  std::vector<Array<float>> gradient_;

 public:
  Array<float> dx;
};

// What came out, on the host.
struct HeadResults {
  explicit HeadResults(const DeviceHead& head) : rewards(head.rewards.values()), dx(head.dx.values()) {
    for (int i = 0; i < 4; ++i) gradient.push_back(head.gradient(i).values());
  }
  std::vector<float> rewards, dx;
  std::vector<std::vector<float>> gradient;
};
inline bool same_results(const HeadResults& a, const HeadResults& b) {
  bool same = same_bits(a.rewards, b.rewards) && same_bits(a.dx, b.dx);
  for (size_t i = 0; i < a.gradient.size(); ++i) same = same && same_bits(a.gradient[i], b.gradient[i]);
  return same;
}

// Compares results with `expected` element by element: |actual - expected| <= bound(tensor, i), tensors in the order
// rewards, w1, b1, w2, b2, dX. Nothing may be written between the rows of dX.
template <class Bound>
void expect_results(const HeadResults& results, const Expected& expected, const Sizes& s, const Bound& bound) {
  const auto compare = [&](int tensor, const auto& actual, const auto& exact) {
    for (int64_t i = 0; i < std::ssize(actual); ++i) {
      const double wanted = *(exact.begin() + i), got = actual[i];
      if (std::abs(got - wanted) <= bound(tensor, i) || (std::isnan(wanted) && std::isnan(got))) continue;
      FAIL() << "tensor " << tensor << " element " << i << " is " << got << "; expected " << wanted << " within "
             << bound(tensor, i);
    }
  };
  compare(0, results.rewards, expected.rewards);
  compare(1, results.gradient[0], expected.gradient.w1);
  compare(2, results.gradient[1], expected.gradient.b1);
  compare(3, results.gradient[2], expected.gradient.w2);
  compare(4, results.gradient[3], expected.gradient.b2);
  std::vector<float> dx;
  for (int64_t row = 0; row < s.rows; ++row) {
    const auto from = results.dx.begin() + row * (s.input + s.dx_gap);
    dx.insert(dx.end(), from, from + s.input);
    for (int64_t gap = 0; gap < s.dx_gap && row + 1 < s.rows; ++gap) {
      ASSERT_EQ(std::bit_cast<uint32_t>(from[s.input + gap]), ~0u) << "written between the rows of dx";
    }
  }
  compare(5, dx, expected.dx);
}

}  // namespace rewardhead::kernels::cuda::testing
