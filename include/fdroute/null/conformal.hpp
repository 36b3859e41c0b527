#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "fdroute/errors.hpp"
#include "fdroute/null/provenance.hpp"

namespace fdroute::inline v0 {

/// ConformalNull: the rank of a score among a calibration sample of scores of unneeded experts,
///
///     p = (1 + #{ i : c_i >= score }) / (n + 1)
///
/// c, shape (n), is the sample. No shape of the distribution is assumed: if the score is
/// exchangeable with the n calibration scores, P(p <= u) <= u for every u. That is marginal: over
/// the draw of the sample, too. Given one sample it holds on average, not for every token, and the
/// p-values that share the sample are dependent: positively (PRDS, theorem 2 of Bates et al.), so
/// that Benjamini-Hochberg's bound stands. p lies in
/// [1/(n + 1), 1], and all scores above the sample have the same p: Benjamini-Hochberg over m
/// experts can reject a single one only if n + 1 >= m / alpha. A p-value takes O(log n).
///
/// The constructor takes the sample in any order. It throws std::invalid_argument if the sample is
/// empty or holds NaN, or if provenance.score is empty.
///
/// V. Vovk, A. Gammerman and G. Shafer, Algorithmic learning in a random world (2005),
/// doi:10.1007/b106715. S. Bates et al., Testing for outliers with conformal p-values, Ann. Stat.
/// 51 (2023), doi:10.1214/22-AOS2244
class ConformalNull {
 public:
  ConformalNull(std::vector<double> calibration, NullProvenance provenance)
      : sorted_(std::move(calibration)), provenance_(std::move(provenance)) {
    if (sorted_.empty()) detail::refuse("ConformalNull: the sample is empty");
    if (provenance_.score.empty()) {
      detail::refuse("ConformalNull: provenance.score must name the score of the sample");
    }
    const auto nan = std::find_if(sorted_.begin(), sorted_.end(),
                                  [](double score) { return std::isnan(score); });
    if (nan != sorted_.end()) {
      detail::refuse("ConformalNull: calibration[", nan - sorted_.begin(), "] is not a number");
    }
    std::sort(sorted_.begin(), sorted_.end());
  }

  /// The p-value of a score, which may be infinite, not NaN.
  double operator()(double score) const noexcept {
    const auto reached = sorted_.end() - std::lower_bound(sorted_.begin(), sorted_.end(), score);
    return static_cast<double>(1 + reached) / static_cast<double>(sorted_.size() + 1);
  }

  /// Name of the score of the calibration sample.
  std::string_view fitted_on() const noexcept { return provenance_.score; }

  /// Where the sample comes from.
  const NullProvenance& provenance() const noexcept { return provenance_; }

  /// Number of calibration scores.
  std::size_t size() const noexcept { return sorted_.size(); }

 private:
  std::vector<double> sorted_;
  NullProvenance provenance_;
};

}  // namespace fdroute::inline v0
