#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include "fdroute/errors.hpp"
#include "fdroute/null/provenance.hpp"

namespace fdroute::inline v0 {

/// ConformalENull: the reciprocal of a conformal e-value, as a p-value.
///
///     e = (n + 1) g(score) / (g(c_1) + ... + g(c_n) + g(score)),   g(s) = exp(rate s)
///     p = min(1, 1 / e)
///
/// c, shape (n), is a calibration sample of scores of unneeded experts. If the score is
/// exchangeable with it, e has mean 1, so p is a p-value (Markov), and BenjaminiHochberg over such
/// p is the e-BH procedure: its false discovery rate is at most alpha whatever the dependence of a
/// token's scores. p lies in [1/(n + 1), 1] and never increases with the score. A large `rate`
/// bets on scores far above the sample. It is p by the mean of g, so it takes O(1).
///
/// The constructor throws std::invalid_argument if the sample is empty or holds what is not finite,
/// if rate is not finite and above 0, or if provenance.score is empty.
///
/// V. Vovk and R. Wang, Ann. Stat. 49 (2021), doi:10.1214/20-AOS2020. R. Wang and A. Ramdas, J. R.
/// Stat. Soc. B 84 (2022), doi:10.1111/rssb.12489
class ConformalENull {
 public:
  ConformalENull(std::span<const double> calibration, double rate, NullProvenance provenance)
      : rate_(rate), size_(calibration.size()), provenance_(std::move(provenance)) {
    if (calibration.empty()) detail::refuse("ConformalENull: the sample is empty");
    if (!(rate > 0.0 && std::isfinite(rate))) {
      detail::refuse("ConformalENull: rate must be finite and above 0, got ", rate);
    }
    if (provenance_.score.empty()) {
      detail::refuse("ConformalENull: provenance.score must name the score of the sample");
    }
    for (std::size_t i = 0; i < calibration.size(); ++i) {
      if (!std::isfinite(calibration[i])) {
        detail::refuse("ConformalENull: calibration[", i, "] is not finite");
      }
    }
    largest_ = *std::max_element(calibration.begin(), calibration.end());
    for (const double score : calibration) sum_ += std::exp(rate_ * (score - largest_));
  }

  /// The p-value of a score, which may be infinite, not NaN.
  double operator()(double score) const noexcept {
    // 1 / e = (sum / g(score) + 1) / (n + 1), with g over its largest in the sample.
    const double others = sum_ * std::exp(rate_ * (largest_ - score));
    return std::fmin(1.0, (others + 1.0) / (static_cast<double>(size_) + 1.0));
  }

  /// Name of the score of the calibration sample.
  std::string_view fitted_on() const noexcept { return provenance_.score; }

  /// Where the sample comes from.
  const NullProvenance& provenance() const noexcept { return provenance_; }

  /// Number of calibration scores.
  std::size_t size() const noexcept { return size_; }

 private:
  double rate_;
  std::size_t size_;
  double largest_ = 0.0;
  double sum_ = 0.0;  // of g over its largest value
  NullProvenance provenance_;
};

}  // namespace fdroute::inline v0
