#pragma once

#include <span>

#include "fdroute/detail/rule/step_rules.hpp"

namespace fdroute::inline v0 {

/// Hochberg: the step-up rule at family-wise error rate alpha, with Holm's critical values.
///
///     count = max { k : p(k) <= alpha / (m - k + 1) },  0 if there is none
///
/// p(1) <= ... <= p(m) are the sorted p-values; the count lies in [0, m]. The comparison is closed
/// and made in double. `alpha` lies in (0, 1); a Router throws std::invalid_argument otherwise. The
/// probability that any null expert is selected is at most alpha where Simes' inequality holds:
/// under independence and under positive dependence (MTP2).
///
/// Y. Hochberg, A sharper Bonferroni procedure for multiple tests of significance, Biometrika 75
/// (1988), doi:10.1093/biomet/75.4.800
/// R. J. Simes, An improved Bonferroni procedure for multiple tests of significance, Biometrika 73
/// (1986), doi:10.1093/biomet/73.3.751, conjectured and S. K. Sarkar, Some probability inequalities
/// for ordered MTP2 random variables, Ann. Stat. 26 (1998), doi:10.1214/aos/1028144846, proved that
/// inequality under MTP2.
struct Hochberg {
  double alpha = 0.05;

  /// alpha / (m - k + 1), for k in 1 .. m; m is `experts`.
  constexpr double critical_value(int k, int experts) const noexcept {
    return alpha / (experts - k + 1);
  }

  constexpr int operator()(std::span<const double> sorted_p) const noexcept {
    const int m = static_cast<int>(sorted_p.size());
    return detail::step_up(sorted_p, [&](int k) { return critical_value(k, m); });
  }

  /// p(k) to the smallest (m - i + 1) p(i) of all i >= k, at most 1.
  constexpr void adjust(std::span<double> sorted_p) const noexcept {
    const auto m = static_cast<int>(sorted_p.size());
    detail::adjust_step_up(sorted_p, [&](double p, int k) { return p * (m - k + 1); });
  }

  void validate(int) const { detail::validate_alpha("Hochberg", alpha); }
};

}  // namespace fdroute::inline v0
