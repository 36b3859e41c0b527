#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "fdroute/detail/rule/step_rules.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"

namespace fdroute::inline v0 {

/// TwoStageBKY: the two-stage adaptive step-up rule of Benjamini, Krieger and Yekutieli.
///
///     q     = alpha / (1 + alpha)
///     r     = Benjamini-Hochberg's count at q
///     count = r if r is 0 or m, else max { k : p(k) <= q k / (m - r), p(k) < 1 }
///
/// p(1) <= ... <= p(m) are the sorted p-values; the count lies in [0, m]. The first stage estimates
/// the number of nulls by m - r; with r = 0 nothing and with r = m everything is rejected, without
/// a second stage, as the paper's definition 6 says. The comparison is closed and made in double,
/// as (q * k) / (m - r). A p-value of 1, a masked expert's, is never rejected, though the second
/// stage's critical values may exceed 1. `alpha` lies in (0, 1); a Router throws
/// std::invalid_argument otherwise. Under independence the false discovery rate is at most alpha.
///
/// Y. Benjamini, A. M. Krieger and D. Yekutieli, Adaptive linear step-up procedures that control
/// the false discovery rate, Biometrika 93 (2006), doi:10.1093/biomet/93.3.491
struct TwoStageBKY {
  double alpha = 0.05;

  constexpr int operator()(std::span<const double> sorted_p) const noexcept {
    const int nulls = null_count(sorted_p);
    const double q = alpha / (1.0 + alpha);
    return detail::step_up(below_one(sorted_p), [&](int k) { return (q * k) / nulls; });
  }

  /// p(k) to the smallest (1 + alpha) (m - r) p(i) / i of all i >= k, at most 1; m in place of m -
  /// r if r = m. The first stage depends on alpha, so these hold for this rule's alpha only.
  constexpr void adjust(std::span<double> sorted_p) const noexcept {
    const double factor = null_count(sorted_p) * (1.0 + alpha);
    detail::adjust_step_up(sorted_p,
                           [&](double p, int k) { return p < 1.0 ? p * factor / k : 1.0; });
  }

  void validate(int) const { detail::validate_alpha("TwoStageBKY", alpha); }

 private:
  static constexpr std::span<const double> below_one(std::span<const double> sorted_p) noexcept {
    const auto ones = std::lower_bound(sorted_p.begin(), sorted_p.end(), 1.0);
    return {sorted_p.begin(), ones};
  }

  // m - r; with r = m the second stage is the first one again.
  constexpr int null_count(std::span<const double> sorted_p) const noexcept {
    const int m = static_cast<int>(sorted_p.size());
    const int rejected = BenjaminiHochberg{alpha / (1.0 + alpha)}(sorted_p);
    return rejected == m ? m : m - rejected;
  }
};

}  // namespace fdroute::inline v0
