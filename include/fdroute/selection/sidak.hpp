#pragma once

#include <cmath>
#include <span>

#include "fdroute/detail/rule/step_rules.hpp"

namespace fdroute::inline v0 {

/// Sidak: the single-step rule at family-wise error rate alpha, exact for independent p-values.
///
///     count = #{ j : p_j <= 1 - (1 - alpha)^(1/m) }
///
/// p, shape (m), are the token's p-values; the count lies in [0, m]. The comparison is closed and
/// made in double; the right side is computed as -expm1(log1p(-alpha) / m), without cancellation.
/// `alpha` lies in (0, 1); a Router throws std::invalid_argument otherwise. Under independence,
/// and under positive orthant dependence of the nulls' p-values, the probability that any null is
/// rejected is at most alpha.
///
/// Z. Sidak, Rectangular confidence regions for the means of multivariate normal distributions,
/// J. Am. Stat. Assoc. 62 (1967), doi:10.1080/01621459.1967.10482935
struct Sidak {
  double alpha = 0.05;

  /// 1 - (1 - alpha)^(1/m), for every k; m is `experts`.
  double critical_value(int, int experts) const noexcept {
    return -std::expm1(std::log1p(-alpha) / experts);
  }

  int operator()(std::span<const double> sorted_p) const noexcept {
    const double level = critical_value(1, static_cast<int>(sorted_p.size()));
    return detail::step_up(sorted_p, [&](int) { return level; });
  }

  /// p to 1 - (1 - p)^m.
  void adjust(std::span<double> sorted_p) const noexcept {
    const auto m = static_cast<double>(sorted_p.size());
    detail::adjust_step_up(sorted_p,
                           [&](double p, int) { return -std::expm1(m * std::log1p(-p)); });
  }

  void validate(int) const { detail::validate_alpha("Sidak", alpha); }
};

}  // namespace fdroute::inline v0
