#pragma once

#include <span>

#include "fdroute/detail/rule/step_rules.hpp"

namespace fdroute::inline v0 {

/// Bonferroni: the single-step rule at family-wise error rate alpha.
///
///     count = #{ j : p_j <= alpha / m }
///
/// p, shape (m), are the token's p-values; the count lies in [0, m]. The comparison is closed and
/// made in double. `alpha` lies in (0, 1); a Router throws std::invalid_argument otherwise. The
/// probability that any null expert is selected is at most alpha, whatever the dependence.
///
/// O. J. Dunn, Multiple comparisons among means, J. Am. Stat. Assoc. 56 (1961),
/// doi:10.1080/01621459.1961.10482090
struct Bonferroni {
  double alpha = 0.05;

  /// alpha / m, for every k; m is `experts`.
  constexpr double critical_value(int, int experts) const noexcept { return alpha / experts; }

  constexpr int operator()(std::span<const double> sorted_p) const noexcept {
    const int m = static_cast<int>(sorted_p.size());
    return detail::step_up(sorted_p, [&](int k) { return critical_value(k, m); });
  }

  /// p to m p, at most 1.
  constexpr void adjust(std::span<double> sorted_p) const noexcept {
    const auto m = static_cast<double>(sorted_p.size());
    detail::adjust_step_up(sorted_p, [&](double p, int) { return p * m; });
  }

  void validate(int) const { detail::validate_alpha("Bonferroni", alpha); }
};

}  // namespace fdroute::inline v0
