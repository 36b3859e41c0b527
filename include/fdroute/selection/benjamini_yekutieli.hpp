#pragma once

#include <span>

#include "fdroute/detail/rule/step_rules.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"

namespace fdroute::inline v0 {

/// BenjaminiYekutieli: the step-up rule of Benjamini and Hochberg at level
/// alpha / (1 + 1/2 + ... + 1/m).
///
///     count = max { k : p(k) <= alpha k / (m sum_{i<=m} 1/i) },  0 if there is none
///
/// p(1) <= ... <= p(m) are the sorted p-values; the count lies in [0, m]. The comparison is closed
/// and made in double. `alpha` lies in (0, 1); a Router throws std::invalid_argument otherwise. The
/// false discovery rate is at most alpha whatever the dependence of the p-values. The price is the
/// factor in the denominator, 4.7 with 64 experts.
///
/// Y. Benjamini and D. Yekutieli, The control of the false discovery rate in multiple testing under
/// dependency, Ann. Stat. 29 (2001), theorem 1.3, doi:10.1214/aos/1013699998
struct BenjaminiYekutieli {
  double alpha = 0.05;

  /// alpha k / (m sum_{i<=m} 1/i), for k in 1 .. m; m is `experts`.
  constexpr double critical_value(int k, int experts) const noexcept {
    return at_level(experts).critical_value(k, experts);
  }

  constexpr int operator()(std::span<const double> sorted_p) const noexcept {
    return at_level(static_cast<int>(sorted_p.size()))(sorted_p);
  }

  /// p(k) to the smallest m p(i) / i of all i >= k, times 1 + 1/2 + ... + 1/m, at most 1.
  constexpr void adjust(std::span<double> sorted_p) const noexcept {
    const auto m = static_cast<double>(sorted_p.size());
    const double factor = m * harmonic(static_cast<int>(sorted_p.size()));
    detail::adjust_step_up(sorted_p, [&](double p, int k) { return p * factor / k; });
  }

  void validate(int) const { detail::validate_alpha("BenjaminiYekutieli", alpha); }

 private:
  static constexpr double harmonic(int m) noexcept {
    double sum = 0.0;
    for (int i = m; i > 0; --i) sum += 1.0 / i;
    return sum;
  }

  constexpr BenjaminiHochberg at_level(int m) const noexcept { return {alpha / harmonic(m)}; }
};

}  // namespace fdroute::inline v0
