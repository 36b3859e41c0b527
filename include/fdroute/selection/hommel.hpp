#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "fdroute/detail/rule/step_rules.hpp"

namespace fdroute::inline v0 {

/// Hommel: the closure of Simes' test, at family-wise error rate alpha.
///
///     h     = max { i : p(m-i+k) > alpha k / i for all k <= i },  0 if there is none
///     count = #{ j : p_j <= alpha / h },  m if h = 0
///
/// p(1) <= ... <= p(m) are the sorted p-values; the count lies in [0, m]. h is the largest number
/// of hypotheses that Simes' test leaves standing together. What holds for i holds for all smaller
/// i, so h is found by bisection, in O(m log m); alpha k / i is computed as alpha * (k / i), which
/// keeps that true after rounding. The comparison is closed and made in double. `alpha` lies in
/// (0, 1); a Router throws std::invalid_argument otherwise. The probability that any null expert is
/// selected is at most alpha where Simes' inequality holds: under independence and under positive
/// dependence (MTP2). Hommel rejects all that Hochberg does.
///
/// G. Hommel, A stagewise rejective multiple test procedure based on a modified Bonferroni test,
/// Biometrika 75 (1988), doi:10.1093/biomet/75.2.383
/// R. J. Simes, An improved Bonferroni procedure for multiple tests of significance, Biometrika 73
/// (1986), doi:10.1093/biomet/73.3.751, conjectured and S. K. Sarkar, Some probability inequalities
/// for ordered MTP2 random variables, Ann. Stat. 26 (1998), doi:10.1214/aos/1028144846, proved that
/// inequality under MTP2.
struct Hommel {
  double alpha = 0.05;

  constexpr int operator()(std::span<const double> sorted_p) const noexcept {
    const int h = standing(sorted_p);
    if (h == 0) return static_cast<int>(sorted_p.size());
    const double level = alpha / h;
    return detail::step_up(sorted_p, [&](int) { return level; });
  }

  /// h.
  constexpr int standing(std::span<const double> sorted_p) const noexcept {
    int standing = 0;
    int fallen = static_cast<int>(sorted_p.size()) + 1;
    while (fallen - standing > 1) {
      const int middle = standing + (fallen - standing) / 2;
      (simes_rejects(sorted_p.last(static_cast<std::size_t>(middle))) ? fallen : standing) = middle;
    }
    return standing;
  }

  /// p to the smallest alpha at which the rule rejects it, at most 1. Allocates; takes O(m^2).
  void adjust(std::span<double> sorted_p) const {
    const std::size_t m = sorted_p.size();
    std::vector<double> adjusted(sorted_p.begin(), sorted_p.end());
    for (std::size_t i = 1; i <= m; ++i) {
      // The level at which Simes' test rejects the i largest; up to it, i hypotheses stand.
      const auto largest = sorted_p.last(i);
      double simes = std::numeric_limits<double>::infinity();
      for (std::size_t k = 1; k <= i; ++k) {
        simes = std::min(simes, largest[k - 1] * static_cast<double>(i) / static_cast<double>(k));
      }
      for (std::size_t j = 0; j < m; ++j) {
        // Rejected at alpha needs h(alpha) < i or p <= alpha / i.
        adjusted[j] = std::max(adjusted[j], std::min(simes, sorted_p[j] * static_cast<double>(i)));
      }
    }
    std::copy(adjusted.begin(), adjusted.end(), sorted_p.begin());
  }

  void validate(int) const { detail::validate_alpha("Hommel", alpha); }

 private:
  constexpr bool simes_rejects(std::span<const double> sorted_p) const noexcept {
    const auto i = static_cast<double>(sorted_p.size());
    return detail::step_up(sorted_p, [&](int k) { return alpha * (k / i); }) > 0;
  }
};

}  // namespace fdroute::inline v0
