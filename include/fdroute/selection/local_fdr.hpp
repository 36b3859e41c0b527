#pragma once

#include <cstddef>
#include <span>

#include "fdroute/detail/rule/step_rules.hpp"

namespace fdroute::inline v0 {

/// LocalFdr: local false discovery rate at most alpha, the density of p-values estimated by
/// Grenander's method.
///
///     count = #{ j : 1 / f(p_j) <= alpha }
///           = the largest k in 0..m that maximises alpha k / m - p(k),   p(0) = 0
///
/// p(1) <= ... <= p(m) are the sorted p-values; the count lies in [0, m]. f is the slope, to the
/// left, of the least concave majorant of the p-values' empirical distribution function: the
/// maximum-likelihood density among the decreasing ones. The share of nulls is bounded by 1. The
/// second form is the first without the majorant: lines of slope 1/alpha touch it where the
/// difference is largest. It is computed in double, as (alpha * k) / m - p(k). `alpha` lies in
/// (0, 1); a Router throws std::invalid_argument otherwise. Under independence the last selected
/// expert is a null with probability at most alpha.
///
/// K. Strimmer, A unified approach to false discovery rate estimation, BMC Bioinformatics 9 (2008),
/// doi:10.1186/1471-2105-9-303. J. A. Soloff, D. Xiang and W. Fithian, The edge of discovery:
/// controlling the local false discovery rate at the margin, Ann. Stat. 52 (2024),
/// arXiv:2207.07299
struct LocalFdr {
  double alpha = 0.2;

  constexpr int operator()(std::span<const double> sorted_p) const noexcept {
    const int m = static_cast<int>(sorted_p.size());
    double best = 0.0;
    int count = 0;
    for (int k = 1; k <= m; ++k) {
      const double lead = (alpha * k) / m - sorted_p[static_cast<std::size_t>(k - 1)];
      if (lead >= best) {
        best = lead;
        count = k;
      }
    }
    return count;
  }

  void validate(int) const { detail::validate_alpha("LocalFdr", alpha); }
};

}  // namespace fdroute::inline v0
