#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/rule/strongest_deviation.hpp"

namespace fdroute::inline v0 {

namespace detail {

/// y - log(1 + y) for y in [-1/2, 1], to a relative 6 * 2^-53 of it.
///
/// With s = y / (2 + y), log(1 + y) = 2 (s + s^3/3 + s^5/5 + ...) and y - 2 s = s y, so
///
///     y - log(1 + y) = s (y - 2 s^2 (1/3 + s^2/5 + s^4/7 + ...)).
///
/// |s| <= 1/3, so the 17 terms leave out less than 3^-34 of the sum, 2^-53.9, and the sum is at
/// most 0.15 |y|: the subtraction doubles no error.
inline double less_log1p(double y) noexcept {
  constexpr std::array<double, 17> odd_inverse = {
      1.0 / 35, 1.0 / 33, 1.0 / 31, 1.0 / 29, 1.0 / 27, 1.0 / 25, 1.0 / 23, 1.0 / 21, 1.0 / 19,
      1.0 / 17, 1.0 / 15, 1.0 / 13, 1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3};
  const double s = y / (2.0 + y);
  const double s2 = product(s, s);
  double sum = 0.0;
  for (const double inverse : odd_inverse) sum = inverse + product(s2, sum);
  return s * (y - product(2.0 * s2, sum));
}

}  // namespace detail

/// BerkJones: cut where the p-values deviate most from uniform ones by likelihood ratio.
///
///     BJ(i) = m K(i/m, p(i)),   K(x, p) = x log(x/p) + (1 - x) log((1 - x) / (1 - p))
///     count = argmax { BJ(i) : i <= search m, i < m, p(i) < i/m },  the last i of equals;
///             0 if there is none or its BJ is below `critical`
///
/// p(1) <= ... <= p(m) are the sorted p-values; the count lies in [0, search m]. K is the
/// Kullback-Leibler divergence of two coins. Only p-values below i/m count: the literature mostly
/// calls this one-sided form BJ+. It tests the whole row; to cut at its argmax is fdroute's idea,
/// as HigherCriticism's cut is carried over to it. BJ is computed in double, with i/m rounded to
/// double: BJ of p = 0 is infinite, and any other is positive and within a relative 4e-15 of its
/// value. Its tail is lighter than that of HigherCriticism, so one tiny p-value outweighs less.
///
/// `search` lies in (0, 1); `critical`, the gate, is finite and at least 0. A Router throws
/// std::invalid_argument otherwise. critical_statistic() gives the gate that noise passes with a
/// given probability.
///
/// R. H. Berk and D. H. Jones, Goodness-of-fit test statistics that dominate the Kolmogorov
/// statistics, Z. Wahrscheinlichkeitstheorie verw. Geb. 47 (1979), doi:10.1007/BF00533250
struct BerkJones {
  double search = 0.5;
  double critical = 0.0;

  int operator()(std::span<const double> sorted_p) const noexcept {
    return detail::strongest_deviation(
        sorted_p, search, critical, [this](double p, int i, int m) { return statistic(p, i, m); });
  }

  /// How many of the smallest p-values the count depends on: see Kernel::smallest_p.
  constexpr int reads(int experts) const noexcept { return detail::searched(search, experts); }

  /// BJ(i) of p(i) = p, for 0 <= p < i/m.
  ///
  /// The two terms of K nearly cancel where p is near x. With d = x - p and g(y) = y - log(1 + y),
  ///
  ///     K(x, p) = x g(-d/x) + (1 - x) g(d / (1 - x)),
  ///
  /// since the terms linear in d are equal and opposite. g is not negative, so nothing cancels. d
  /// is rounded once (not at all from p = x/2 on), each y three times, and |y g'(y) / g(y)| <= 2.6
  /// passes a relative error of 3 * 2^-53 of y on as one of 8 * 2^-53. g itself loses at most a
  /// factor 6.2 to its subtraction where it is taken as such, 10 * 2^-53 with what log1p is off.
  /// Products and the sum add 3: in all less than 32 * 2^-53 = 4e-15.
  double statistic(double p, int i, int m) const noexcept {
    const double x = static_cast<double>(i) / m;
    const double d = x - p;
    const double below = d / x;
    const double above = d / (1.0 - x);
    // From p = x/2 down 1 - d/x would cancel. x/p overflows only far below 2^-900.
    const double log_ratio = p < 0x1p-900 ? std::log(x) - std::log(p) : std::log(x / p);
    const double of_x = below <= 0.5 ? detail::less_log1p(-below) : log_ratio - below;
    const double of_rest = above <= 1.0 ? detail::less_log1p(above) : above - std::log1p(above);
    return m * (detail::product(x, of_x) + detail::product(1.0 - x, of_rest));
  }

  /// The largest p(i) below i/m whose BJ(i) is at least `value`, by bisection over the doubles.
  double boundary(double value, int i, int m) const noexcept {
    std::uint64_t low = 0;  // as bits, which ascend with the number
    auto high = std::bit_cast<std::uint64_t>(static_cast<double>(i) / m);
    while (high - low > 1) {
      const std::uint64_t middle = low + (high - low) / 2;
      (statistic(std::bit_cast<double>(middle), i, m) >= value ? low : high) = middle;
    }
    return std::bit_cast<double>(low);
  }

  void validate(int) const { detail::validate_deviation_rule("BerkJones", search, critical); }
};

template <>
inline constexpr Kernel kernel_of<BerkJones> = Kernel::smallest_p;

}  // namespace fdroute::inline v0
