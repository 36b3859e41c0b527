#pragma once

#include <cmath>
#include <span>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/strongest_deviation.hpp"

namespace fdroute::inline v0 {

/// BerkJones: cut where the p-values deviate most from uniform ones by likelihood ratio.
///
///     BJ(i) = m K(i/m, p(i)),   K(x, p) = x log(x/p) + (1 - x) log((1 - x) / (1 - p))
///     count = argmax { BJ(i) : i <= search m, i < m, p(i) < i/m },  the last i of equals;
///             0 if there is none or its BJ is below `critical`
///
/// K is the Kullback-Leibler divergence of two coins. In double; BJ of p = 0 is infinite. Its tail
/// is lighter than that of HigherCriticism, so one tiny p-value outweighs less. Gate, ranges and
/// errors are those of HigherCriticism.
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

  /// Only the smallest p-values matter: so many of them.
  constexpr int reads(int experts) const noexcept { return detail::searched(search, experts); }

  /// BJ(i) of p(i) = p, for p < i/m.
  double statistic(double p, int i, int m) const noexcept {
    const double x = static_cast<double>(i) / m;
    // Fused wherever it runs: a compiler that may fuse would else give other bits.
    return m * std::fma(x, std::log(x / p), (1.0 - x) * std::log((1.0 - x) / (1.0 - p)));
  }

  /// The largest p(i) whose BJ(i) is at least `value`, to 2^-60 of i/m.
  double boundary(double value, int i, int m) const noexcept {
    double low = 0.0;
    double high = static_cast<double>(i) / m;
    for (int step = 0; step < 60; ++step) {
      const double middle = 0.5 * (low + high);
      (statistic(middle, i, m) >= value ? low : high) = middle;
    }
    return low;
  }

  void validate(int) const { detail::validate_deviation_rule("BerkJones", search, critical); }
};

template <>
inline constexpr Kernel kernel_of<BerkJones> = Kernel::smallest_p;

}  // namespace fdroute::inline v0
