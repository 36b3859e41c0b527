#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "fdroute/detail/rule/step_rules.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// StoreyBH: the adaptive step-up rule, Benjamini-Hochberg with an estimate of the share of nulls.
///
///     pi0   = (1 + #{ j : p_j > lambda }) / (m (1 - lambda))
///     count = max { k : p(k) <= alpha k / (m pi0) and p(k) <= lambda },  0 if there is none
///
/// p(1) <= ... <= p(m) are the sorted p-values; the count lies in [0, m]. pi0 is not capped at 1.
/// The comparison is closed and made in double, as (alpha * k) / (m pi0). `alpha` and `lambda` lie
/// in (0, 1); a Router throws std::invalid_argument otherwise. Under independence the false
/// discovery rate is at most alpha; under positive dependence it may exceed alpha. A masked expert
/// has p-value 1 and counts as a null.
///
/// J. D. Storey, J. E. Taylor and D. Siegmund, Strong control, conservative point estimation and
/// simultaneous conservative consistency of false discovery rates, J. R. Stat. Soc. B 66 (2004),
/// theorem 3, doi:10.1111/j.1467-9868.2004.00439.x
struct StoreyBH {
  double alpha = 0.05;
  double lambda = 0.5;

  constexpr int operator()(std::span<const double> sorted_p) const noexcept {
    const double nulls = null_count(sorted_p);
    return detail::step_up(sorted_p, [&](int k) { return std::min(lambda, (alpha * k) / nulls); });
  }

  /// p(k) to the smallest m pi0 p(i) / i of all i >= k with p(i) <= lambda, at most 1; p-values
  /// above lambda to 1.
  constexpr void adjust(std::span<double> sorted_p) const noexcept {
    const double nulls = null_count(sorted_p);
    detail::adjust_step_up(sorted_p,
                           [&](double p, int k) { return p <= lambda ? p * nulls / k : 1.0; });
  }

  void validate(int) const {
    detail::validate_alpha("StoreyBH", alpha);
    if (!(lambda > 0.0 && lambda < 1.0)) {
      detail::refuse("StoreyBH: lambda must lie in (0, 1), got ", lambda);
    }
  }

 private:
  // m pi0
  constexpr double null_count(std::span<const double> sorted_p) const noexcept {
    const auto above = sorted_p.end() - std::upper_bound(sorted_p.begin(), sorted_p.end(), lambda);
    return static_cast<double>(1 + above) / (1.0 - lambda);
  }
};

}  // namespace fdroute::inline v0
