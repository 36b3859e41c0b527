#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>

#include "fdroute/detail/simd/lanes.hpp"
#include "fdroute/limits.hpp"

namespace fdroute::inline v0::detail {

/// bits(2^(64 + i/8)) - (i << 20) for i = 0 .. 7; stored twice to fill 64 bytes. Adding
/// eighths << 20 sets the exponent.
alignas(64) inline constexpr Table8 eighth_powers = {
    0x5f800000, 0x5f7b95c2, 0x5f7837f0, 0x5f75fed7, 0x5f7504f3, 0x5f75672a, 0x5f7744fd, 0x5f7ac0c7,
    0x5f800000, 0x5f7b95c2, 0x5f7837f0, 0x5f75fed7, 0x5f7504f3, 0x5f75672a, 0x5f7744fd, 0x5f7ac0c7};

/// 2^(i/8) (1 + r + r^2 q(r)) 2^-64 where `counts` holds, else 0: the end of exp(); `shifted` holds
/// 8 n = i in its last bits, and r what is left of the argument.
template <class Arch, std::size_t n, class Mask>
FDROUTE_INLINE Floats<Arch, n> exp_of_remainder(const Mask& counts, const Floats<Arch, n>& shifted,
                                                const Floats<Arch, n>& r) noexcept {
  using Lane = Floats<Arch, n>;
  const Lane q = Lane(0x1.555148p-3F) * r + Lane(0x1.00086ap-1F);
  const auto eighths = bits_of(shifted);  // modulo 2^12: 8 n
  const Lane scaled = float_of(look_up(eighth_powers, eighths) + (eighths << 20));
  return multiply_where(counts, scaled * (q * (r * r) + r) + scaled, Lane(0x1p-64F));
}

/// exp(x - largest) in float, for x <= largest, |largest| <= 400; 0 for x < largest - 104, where
/// the result is less than half of the smallest float. Within 1.2 ulp where it is a normal number,
/// and within 1.2 of the smallest float below that; exactly 1 for x = largest.
///
/// The difference is never rounded: with largest = high + low, high a multiple of 2^-12, and n the
/// multiple of 1/8 nearest to (x - largest) / log 2,
///
///     r = (x - (high + n ln2_high)) - (low + n ln2_low),     exp(x - largest) = 2^n exp(r)
///
/// where high + n ln2_high is a multiple of 2^-15, so exact, and x minus it has at most 24 bits or
/// an error below 2^-26. 2^n is an entry of the table times a power of two, kept 2^64 times too
/// large until the end, so that only the result may be subnormal; exp(r) is 1 + r + r^2 q(r), q a
/// line made for |r| <= log 2 / 16. `largest` is given with its high and its low part.
template <class Arch, std::size_t n>
FDROUTE_INLINE Floats<Arch, n> exp_of_difference(const Floats<Arch, n>& x,
                                                 const Floats<Arch, n>& largest,
                                                 const Floats<Arch, n>& high,
                                                 const Floats<Arch, n>& low) noexcept {
  using Lane = Floats<Arch, n>;
  constexpr float to_eighths = 0x1.8p20F;  // adding it leaves no bit below 1/8
  const Lane difference = x - largest;
  const Lane shifted = difference * Lane(0x1.715476p0F) + Lane(to_eighths);
  const Lane power = shifted - Lane(to_eighths);
  const Lane near = x - add_exact_product(power, Lane(2839.0F / 4096.0F), high);
  const Lane r = near - (power * Lane(0x1.0bfbe8p-15F) + low);
  return exp_of_remainder<Arch>(difference >= Lane(-104.0F), shifted, r);
}

/// exp(x) for x <= 0: exp_of_difference() from 0.
template <class Arch, std::size_t n>
FDROUTE_INLINE Floats<Arch, n> exp_of_negative(const Floats<Arch, n>& x) noexcept {
  using Lane = Floats<Arch, n>;
  constexpr float to_eighths = 0x1.8p20F;
  const Lane shifted = x * Lane(0x1.715476p0F) + Lane(to_eighths);
  const Lane power = shifted - Lane(to_eighths);
  const Lane r = (x - power * Lane(2839.0F / 4096.0F)) - power * Lane(0x1.0bfbe8p-15F);
  return exp_of_remainder<Arch>(x >= Lane(-104.0F), shifted, r);
}

/// exp_of_difference() from one number, the largest.
template <class Arch>
class ExpOfDifference {
 public:
  static constexpr float limit = 400.0F;

  FDROUTE_INLINE explicit ExpOfDifference(float largest) noexcept
      : ExpOfDifference(largest, high_part(largest), largest - high_part(largest)) {}

  /// With high and low already known.
  FDROUTE_INLINE ExpOfDifference(float largest, float high, float low) noexcept
      : largest_(largest), high_(high), low_(low) {}

  /// `largest`, a number or many, rounded to a multiple of 2^-12.
  template <class V>
  static FDROUTE_INLINE V high_part(const V& largest) noexcept {
    return (largest + V(3072.0F)) - V(3072.0F);
  }

  template <std::size_t n>
  FDROUTE_INLINE Floats<Arch, n> operator()(const Floats<Arch, n>& x) const noexcept {
    using Lane = Floats<Arch, n>;
    return exp_of_difference<Arch>(x, Lane(largest_), Lane(high_), Lane(low_));
  }

 private:
  float largest_;
  float high_;
  float low_;
};

/// exp_sum() of a row's first `padded` numbers, at most 64, in sixteen lanes: v0 ... v3 being its
/// vectors of 16 lanes, or 0 where it is shorter, (v0 + v2) + (v1 + v3).
///
/// `padded` is a multiple of 16; the padding is -inf. `e` is aligned to 64 bytes; the exps are
/// written to it. It may be `x`.
template <class Arch>
FDROUTE_INLINE Floats<Arch> exp_sum_by_16(const ExpOfDifference<Arch>& exp, const float* x,
                                          int padded, float* e) noexcept {
  const Floats<Arch> none(0.0F);
  std::array<Floats<Arch>, 4> v{none, none, none, none};
  for (int i = 0; i < std::min(padded, 64); i += 16) {
    Floats<Arch>& part = v[static_cast<std::size_t>(i) / 16];
    part = exp(Floats<Arch>::load_anywhere(x + i));
    part.store(e + i);
  }
  return (v[0] + v[2]) + (v[1] + v[3]);
}

/// exp_sum_by_16() of 64 numbers: all at once where they fit in half of an Arch's registers.
template <class Arch>
FDROUTE_INLINE Floats<Arch> exp_sum_of_64(const ExpOfDifference<Arch>& exp, const float* x,
                                          float* e) noexcept {
  if constexpr (Floats<Arch, 64>::parts <= 8) {
    const auto plus = [](const auto& a, const auto& b) FDROUTE_INLINED { return a + b; };
    const auto exps = exp(Floats<Arch, 64>::load_anywhere(x));
    exps.store(e);
    return fold(fold(exps, plus), plus);
  } else {
    return exp_sum_by_16(exp, x, 64, e);
  }
}

/// The exps of a row's differences from its largest element, written to `e`, and their sum: 64 at a
/// time by lanes in float, then these lanes, and then the lanes, in double. Its relative rounding
/// error is at most 2^-23, for any number of experts. `x`, `padded` and `e` are as above.
///
/// Compiled once per Arch: it is more code than most kernels that call it.
template <class Arch>
[[gnu::flatten, gnu::noinline]] double exp_sum(const float* x, int padded, float largest,
                                               float* e) noexcept {
  if (!(std::abs(largest) <= ExpOfDifference<Arch>::limit)) [[unlikely]] {
    // Exact for all elements within a factor of 2 of the largest; the others' exps are 0.
    for (int i = 0; i < padded; i += 16)
      (Floats<Arch>::load_anywhere(x + i) - Floats<Arch>(largest)).store(e + i);
    x = e;
    largest = 0.0F;
  }
  const ExpOfDifference<Arch> exp(largest);
  Doubles<Arch> total(0.0);
  int i = 0;
  for (; i + 64 <= padded; i += 64) total = total + widen(exp_sum_of_64(exp, x + i, e + i));
  if (i < padded) total = total + widen(exp_sum_by_16(exp, x + i, padded - i, e + i));
  return sum(total);
}

/// Replaces a row's n first numbers by the numerators of its softmax, the exps of their differences
/// from the largest, and returns exp_sum(). These are any numbers: NaN gives 0; where the largest
/// is +inf, all +inf give 1 and the others 0, the limit; without a number above -inf all give 0, as
/// does the sum. `x` has room for a multiple of 16 and is aligned to 64 bytes.
///
/// An ordinary row's are the bits that the kernels have for it, on every machine.
inline double to_exps(float* x, int n) noexcept {
  constexpr float inf = std::numeric_limits<float>::infinity();
  float largest = -inf;
  for (int i = 0; i < n; ++i) largest = larger(x[i], largest);
  if (largest == inf) {
    std::transform(x, x + n, x, [](float logit) { return logit == inf ? 0.0F : -inf; });
    largest = 0.0F;
  }
  if (largest == -inf) {
    std::fill_n(x, n, 0.0F);
    return 0.0;
  }
  std::transform(x, x + n, x, [](float logit) { return logit > -inf ? logit : -inf; });
  const int padded = (n + 15) / 16 * 16;
  std::fill(x + n, x + padded, -inf);
  return exp_sum<ScalarArch>(x, padded, largest, x);
}

/// The multiple of 2^-42 nearest to an exp in [0, 1]. Sums of these, of up to 1024, are exact in
/// double: the same in the order of ids and in that of ranks. If one of n is 1, the sum is off by
/// less than n 2^-43 relative. V is double or Doubles.
template <class V>
FDROUTE_INLINE V fixed_point(const V& exp) noexcept {
  return (exp + V(1024.0)) - V(1024.0);
}
static_assert(max_experts <= 1024);

/// log(x) in double for x in [1, 2^20], within 2^-44 relative to the larger of log x and 2^-7; V is
/// double or Doubles.
///
/// x = 2^n m, m in [sqrt(1/2), sqrt(2)); log m = 2 artanh f, f = (m - 1) / (m + 1), by its series.
/// Our own, since the C library's may differ by machine.
template <class V>
FDROUTE_INLINE V log_of_sum(const V& x) noexcept {
  constexpr double root_half = 0x1.6a09e667f3bcdp-1;
  const auto bits = bits_of(x);
  const auto n = (bits - bits_of(V(root_half))) >> 52;
  const V m = double_of(bits - (n << 52));
  // As the last bits of a large number, an integer is a double.
  const V whole = double_of(n + bits_of(V(0x1p52))) - V(0x1p52);
  const V f = (m - V(1.0)) / (m + V(1.0));
  const V f2 = product(f, f);
  const V f4 = product(f2, f2);
  const V low =
      (V(1.0) + product(f2, V(1.0 / 3))) + product(f4, V(1.0 / 5) + product(f2, V(1.0 / 7)));
  const V high =
      (V(1.0 / 9) + product(f2, V(1.0 / 11))) + product(f4, V(1.0 / 13) + product(f2, V(1.0 / 15)));
  const V series = low + product(product(f4, f4), high);
  return product(whole, V(0x1.62e42fefa39efp-1)) + product(f + f, series);
}

}  // namespace fdroute::inline v0::detail
