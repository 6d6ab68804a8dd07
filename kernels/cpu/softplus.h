// SPDX-License-Identifier: Apache-2.0
//
//   softplus(x) = log(1 + exp(x)) = max(x, 0) + log1p(e)        e = exp(-|x|), in [0, 1]
//   sigmoid(x)  = 1 / (1 + e) for x >= 0,  e / (1 + e) for x < 0
//
// At most 2 ulp from the exact value for every argument, subnormal results included; NaN in, NaN out
// (tests/kernels/logistic_test.cpp). Taking -|x| keeps both functions exact in the tail that matters: no
// cancellation, no overflow. Polynomials: weighted minimax fits, in relative error 9e-4 and 8e-3 ulp.
// constexpr, because the CUDA compiler then calls them on a device as well (cuda/scalar.h).
#pragma once

namespace rewardhead::kernels {
namespace {

// exp(x) for x <= 0. x = n ln2 + r, |r| <= ln2 / 2: exp(x) = 2^n (1 + r + r^2 q(r)).
template <class V>
[[gnu::always_inline]] constexpr typename V::Vector exp_negative(typename V::Vector x) {
  using Vector = typename V::Vector;
  x = V::max(V::set(-104.0f), x);  // exp(-104) rounds to 0; a NaN passes
  // Adding 1.5 2^23 rounds to an integer.
  const Vector shift = V::set(0x1.8p23f);
  const Vector n = V::sub(V::add(V::mul(x, V::set(0x1.715476p0f)), shift), shift);
  // ln2 in two parts; the first has 9 significant bits, so its product with n is exact without FMA.
  Vector r = V::sub(x, V::mul(n, V::set(0x1.63p-1f)));
  r = V::sub(r, V::mul(n, V::set(-0x1.bd0106p-13f)));
  Vector q = V::set(0x1.9f0876p-13f);
  q = V::fma(q, r, V::set(0x1.6d8d3ap-10f));
  q = V::fma(q, r, V::set(0x1.111272p-7f));
  q = V::fma(q, r, V::set(0x1.55548ep-5f));
  q = V::fma(q, r, V::set(0x1.555554p-3f));
  q = V::fma(q, r, V::set(0.5f));
  const Vector fraction = V::add(V::set(1.0f), V::fma(V::mul(r, r), q, r));
  // 2^n in two factors, so that a subnormal result is rounded once.
  const Vector high = V::max(n, V::set(-100.0f));
  return V::mul(V::mul(fraction, V::power_of_two(high)), V::power_of_two(V::sub(n, high)));
}

// log(1 + e) for e in [0, 1]. f = e below 1/2, f = (e - 1) / 2 and an added ln2 from there: both exact.
// log(1 + f) = f - f^2 / 2 + f^3 p(f).
template <class V>
[[gnu::always_inline]] constexpr typename V::Vector log1p_unit(typename V::Vector e) {
  using Vector = typename V::Vector;
  const Vector half = V::set(0.5f);
  const Vector zero = V::set(0.0f);
  const Vector f = V::select_greater(half, e, e, V::mul(half, V::sub(e, V::set(1.0f))));
  Vector p = V::set(0.03453944f);
  p = V::fma(p, f, V::set(-0.087621726f));
  p = V::fma(p, f, V::set(0.11643457f));
  p = V::fma(p, f, V::set(-0.12785381f));
  p = V::fma(p, f, V::set(0.1429323f));
  p = V::fma(p, f, V::set(-0.16652378f));
  p = V::fma(p, f, V::set(0.19998519f));
  p = V::fma(p, f, V::set(-0.25000212f));
  p = V::fma(p, f, V::set(0.3333336f));
  // f^2 (f p - 1/2), then the small term of ln2 first.
  const Vector tail = V::mul(V::mul(f, f), V::sub(V::mul(f, p), half));
  const Vector low = V::select_greater(half, e, zero, V::set(-0x1.bd0106p-13f));
  const Vector high = V::select_greater(half, e, zero, V::set(0x1.63p-1f));
  return V::add(high, V::add(f, V::add(tail, low)));
}

template <class V>
struct Logistic {
  typename V::Vector softplus_positive;  // softplus(x)
  typename V::Vector softplus_negative;  // softplus(-x)
  typename V::Vector sigmoid_positive;   // sigmoid(x)
  typename V::Vector sigmoid_negative;   // sigmoid(-x)
};

// Inlined, so that constants stay in registers and what is not used is not computed.
template <class V>
[[gnu::always_inline]] constexpr Logistic<V> logistic(typename V::Vector x) {
  using Vector = typename V::Vector;
  const Vector zero = V::set(0.0f);
  const Vector one = V::set(1.0f);
  const Vector minus = V::sub(zero, x);
  const Vector e = exp_negative<V>(V::sub(zero, V::max(minus, x)));
  const Vector tail = log1p_unit<V>(e);
  // 1 + e in two parts: the quotients are corrected by the part that its rounding lost, over 1 + e or nearly so.
  const Vector sum = V::add(one, e);
  const Vector lost = V::sub(e, V::sub(sum, one));
  const Vector correction = V::mul(lost, V::fma(V::set(-0.5f), e, V::set(0.97f)));
  const auto over_sum = [&](Vector numerator) {
    const Vector quotient = V::div(numerator, sum);
    return V::sub(quotient, V::mul(quotient, correction));
  };
  return {V::add(V::max(zero, x), tail), V::add(V::max(zero, minus), tail),
          over_sum(V::select_greater(zero, x, e, one)), over_sum(V::select_greater(zero, x, one, e))};
}

}  // namespace
}  // namespace rewardhead::kernels
