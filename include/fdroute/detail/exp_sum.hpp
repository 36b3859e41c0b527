#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "fdroute/detail/lanes.hpp"

namespace fdroute::inline v0::detail {

/// exp(x - largest) in float, for x <= largest, |largest| <= 1000; 0 for x < largest - 104, where
/// the result is less than half of the smallest float. Within 1.2 ulp where it is a normal number,
/// and within 0.51 of the smallest float below that; exactly 1 for x = largest.
///
/// The difference is never rounded: with largest = high + low, high a multiple of 2^-12, and n the
/// integer nearest to (x - largest) / log 2,
///
///     r = (x - (high + n ln2_high)) - (low + n ln2_low),     exp(x - largest) = 2^n exp(r)
///
/// where high + n ln2_high is a multiple of 2^-12, so exact, and x minus it has at most 24 bits or
/// an error below 2^-26. exp(r) is 1 + r + r^2 q(r), q a polynomial made for |r| <= 0.3467.
template <class Arch>
class ExpOfDifference {
  using Lane = Floats<Arch>;

 public:
  static constexpr float limit = 1000.0F;

  explicit ExpOfDifference(float largest) noexcept
      : largest_(largest), high_((largest + 3072.0F) - 3072.0F), low_(largest - high_) {}

  FDROUTE_INLINE Lane operator()(const Lane& x) const noexcept {
    const Lane largest(largest_);
    const Lane difference = x - largest;
    const Lane to_integer(0x1.8p23F);  // adding it leaves no bit below 1
    const Lane n = (difference * Lane(0x1.715476p0F) + to_integer) - to_integer;
    const Lane near = x - add_exact_product(n, Lane(2839.0F / 4096.0F), Lane(high_));
    const Lane r = near - (n * Lane(0x1.0bfbe8p-15F) + Lane(low_));
    Lane q(0x1.6a2400p-10F);
    q = q * r + Lane(0x1.123a02p-7F);
    q = q * r + Lane(0x1.5558f2p-5F);
    q = q * r + Lane(0x1.555492p-3F);
    q = q * r + Lane(0x1.fffffcp-2F);
    return scale(difference >= Lane(-104.0F), (q * (r * r) + r) + Lane(1.0F), n);
  }

 private:
  float largest_;
  float high_;
  float low_;
};

/// The exps of a row's differences from its largest element, written to `e`, and their sum.
///
/// `x` and `e` are aligned to 64 bytes and `padded` long, a multiple of 16; the padding is -inf.
/// The sum adds four vectors of 16 lanes as (v0 + v1) + (v2 + v3) in float, all such groups and
/// then the lanes in double: its relative rounding error is at most 2^-23, for any number of
/// experts.
template <class Arch>
FDROUTE_INLINE double exp_sum(const float* x, int padded, float largest, float* e) noexcept {
  if (!(std::abs(largest) <= ExpOfDifference<Arch>::limit)) {
    // Exact for all elements within a factor of 2 of the largest; the others' exps are 0.
    for (int i = 0; i < padded; i += 16)
      (Floats<Arch>::load(x + i) - Floats<Arch>(largest)).store(e + i);
    x = e;
    largest = 0.0F;
  }
  const ExpOfDifference<Arch> exp(largest);
  const auto exp_at = [&](int i) {
    const Floats<Arch> result = exp(Floats<Arch>::load(x + i));
    result.store(e + i);
    return result;
  };
  Doubles<Arch> total(0.0);
  int i = 0;
  for (; i + 64 <= padded; i += 64) {
    const auto first = exp_at(i) + exp_at(i + 16);
    const auto second = exp_at(i + 32) + exp_at(i + 48);
    total = total + widen(first + second);
  }
  if (i < padded) {
    Floats<Arch> rest = exp_at(i);
    for (i += 16; i < padded; i += 16) rest = rest + exp_at(i);
    total = total + widen(rest);
  }
  return sum(total);
}

/// log(x) in double for x in [1, 2^20], within 2^-44 relative to the larger of log x and 2^-7.
///
/// x = 2^n m, m in [sqrt(1/2), sqrt(2)); log m = 2 artanh f, f = (m - 1) / (m + 1), by its series.
/// Our own, since the C library's may differ by machine.
inline double log_of_sum(double x) noexcept {
  const auto bits = std::bit_cast<std::int64_t>(x);
  const std::int64_t n = (bits - std::bit_cast<std::int64_t>(0x1.6a09e667f3bcdp-1)) >> 52;
  const auto m = std::bit_cast<double>(bits - n * (std::int64_t{1} << 52));
  const double f = (m - 1.0) / (m + 1.0);
  const double f2 = rounded(f * f);
  const double f4 = rounded(f2 * f2);
  const double low =
      (1.0 + rounded(f2 * (1.0 / 3))) + rounded(f4 * (1.0 / 5 + rounded(f2 * (1.0 / 7))));
  const double high =
      (1.0 / 9 + rounded(f2 * (1.0 / 11))) + rounded(f4 * (1.0 / 13 + rounded(f2 * (1.0 / 15))));
  const double series = low + rounded(rounded(f4 * f4) * high);
  return rounded(static_cast<double>(n) * 0x1.62e42fefa39efp-1) + rounded(2.0 * f * series);
}

}  // namespace fdroute::inline v0::detail
