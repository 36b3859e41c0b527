#pragma once

#include <cmath>
#include <span>

#include "fdroute/detail/rule/step_rules.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// EBH: Benjamini-Hochberg on e-values, obtained from p-values by the calibrator
/// e(p) = kappa p^(kappa - 1).
///
///     count = max { k : e(k) >= m / (alpha k) },                     e(1) >= ... >= e(m)
///           = max { k : p(k) <= (kappa alpha k / m)^(1 / (1 - kappa)) },  0 if there is none
///
/// p(1) <= ... <= p(m) are the sorted p-values; the count lies in [0, m]. The comparison is closed
/// and made in double, in the second form. `alpha` and `kappa` lie in (0, 1); a Router throws
/// std::invalid_argument otherwise. The false discovery rate is at most alpha whatever the
/// dependence of the p-values. With the default kappa, e = 1 / (2 sqrt(p)).
///
/// On p-values BenjaminiYekutieli promises as much and rejects more: for m <= 256 and alpha <= 1/2
/// no critical value here exceeds 0.84 of that one's, whatever kappa. What e-values are good for is
/// a null that has them: with p = min(1, 1 / e), which Markov's and, for test martingales, Ville's
/// inequality make a p-value, BenjaminiHochberg is e-BH itself, and its false discovery rate is at
/// most alpha under any dependence. ConformalENull is such a null.
///
/// R. Wang and A. Ramdas, False discovery rate control with e-values, J. R. Stat. Soc. B 84 (2022),
/// doi:10.1111/rssb.12489. V. Vovk and R. Wang, E-values: calibration, combination and
/// applications, Ann. Stat. 49 (2021), doi:10.1214/20-AOS2020
struct EBH {
  double alpha = 0.05;
  double kappa = 0.5;

  /// (kappa alpha k / m)^(1 / (1 - kappa)), for k in 1 .. m; m is `experts`.
  double critical_value(int k, int experts) const noexcept {
    return std::pow(kappa * alpha * k / experts, 1.0 / (1.0 - kappa));
  }

  int operator()(std::span<const double> sorted_p) const noexcept {
    const int m = static_cast<int>(sorted_p.size());
    return detail::step_up(sorted_p, [&](int k) { return critical_value(k, m); });
  }

  /// p(k) to the smallest m p(i)^(1 - kappa) / (kappa i) of all i >= k, at most 1.
  void adjust(std::span<double> sorted_p) const noexcept {
    const auto m = static_cast<double>(sorted_p.size());
    detail::adjust_step_up(
        sorted_p, [&](double p, int k) { return std::pow(p, 1.0 - kappa) * m / (kappa * k); });
  }

  void validate(int) const {
    detail::validate_alpha("EBH", alpha);
    if (!(kappa > 0.0 && kappa < 1.0)) {
      detail::refuse("EBH: kappa must lie in (0, 1), got ", kappa);
    }
  }
};

}  // namespace fdroute::inline v0
