#pragma once

#include <span>

#include "fdroute/detail/rule/step_rules.hpp"

namespace fdroute::inline v0 {

/// BenjaminiHochberg: the step-up rule at false discovery rate alpha.
///
///     count = max { k : p(k) <= alpha k / m },  0 if there is none
///
/// p(1) <= ... <= p(m) are the token's m p-values in ascending order; the count lies in [0, m]. The
/// comparison is closed (equality rejects) and made in double, the right side computed as
/// (alpha * k) / m. `alpha` lies in (0, 1); a Router throws std::invalid_argument otherwise. Under
/// independence, or positive regression dependence on each of the nulls (PRDS), the expected share
/// of nulls among the rejected is at most pi0 alpha, pi0 being the nulls' share of all m.
///
/// Y. Benjamini and Y. Hochberg, Controlling the false discovery rate, J. R. Stat. Soc. B 57
/// (1995), section 3.1, doi:10.1111/j.2517-6161.1995.tb02031.x. PRDS: Y. Benjamini and D.
/// Yekutieli, Ann. Stat. 29 (2001), theorem 1.2, doi:10.1214/aos/1013699998
struct BenjaminiHochberg {
  double alpha = 0.05;

  /// alpha k / m, what p(k) is compared with, for k in 1 .. m; m is `experts`.
  constexpr double critical_value(int k, int experts) const noexcept {
    return (alpha * k) / experts;
  }

  constexpr int operator()(std::span<const double> sorted_p) const noexcept {
    const int m = static_cast<int>(sorted_p.size());
    return detail::step_up(sorted_p, [&](int k) { return critical_value(k, m); });
  }

  /// p(k) to the smallest m p(i) / i of all i >= k, at most 1.
  constexpr void adjust(std::span<double> sorted_p) const noexcept {
    const auto m = static_cast<double>(sorted_p.size());
    detail::adjust_step_up(sorted_p, [&](double p, int k) { return p * m / k; });
  }

  void validate(int) const { detail::validate_alpha("BenjaminiHochberg", alpha); }
};

}  // namespace fdroute::inline v0
