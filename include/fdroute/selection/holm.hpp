#pragma once

#include <span>

#include "fdroute/detail/rule/step_rules.hpp"

namespace fdroute::inline v0 {

/// Holm: the step-down rule at family-wise error rate alpha.
///
///     count = max { k : p(i) <= alpha / (m - i + 1) for all i <= k },  0 if there is none
///
/// p(1) <= ... <= p(m) are the sorted p-values; the count lies in [0, m]. The comparison is closed
/// and made in double. `alpha` lies in (0, 1); a Router throws std::invalid_argument otherwise. The
/// probability that any null expert is selected is at most alpha, whatever the dependence. Holm
/// rejects all that Bonferroni does.
///
/// S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6 (1979),
/// https://www.jstor.org/stable/4615733
struct Holm {
  /// See StepDownRule.
  static constexpr bool step_down = true;
  double alpha = 0.05;

  /// alpha / (m - k + 1), for k in 1 .. m; m is `experts`.
  constexpr double critical_value(int k, int experts) const noexcept {
    return alpha / (experts - k + 1);
  }

  constexpr int operator()(std::span<const double> sorted_p) const noexcept {
    const int m = static_cast<int>(sorted_p.size());
    return detail::step_down(sorted_p, [&](int k) { return critical_value(k, m); });
  }

  /// p(k) to the largest (m - i + 1) p(i) of all i <= k, at most 1.
  constexpr void adjust(std::span<double> sorted_p) const noexcept {
    const auto m = static_cast<int>(sorted_p.size());
    detail::adjust_step_down(sorted_p, [&](double p, int k) { return p * (m - k + 1); });
  }

  void validate(int) const { detail::validate_alpha("Holm", alpha); }
};

}  // namespace fdroute::inline v0
