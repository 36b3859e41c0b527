#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string_view>

#include "fdroute/concepts.hpp"
#include "fdroute/limits.hpp"

namespace fdroute::inline v0 {

/// RobustZScore: the logit standardised within its token by median and median absolute deviation,
///
///     score_j = (logit_j - median) / (c MAD),   MAD = median of |logit_i - median|
///
/// over the token's finite logits, of which there is at least one; of an even number the median is
/// the mean of the two in the middle. c = 1 / Phi^-1(3/4) = 1.4826 makes c MAD the standard
/// deviation of a normal sample, so that NormalNull's defaults suit. The few logits of the experts
/// that a token needs move neither, where they widen ZScore's deviation and shrink its scores.
///
/// Both are in double, exact but for one rounding; median and 1 / (c MAD) are rounded to float
/// once, the latter at most to the largest float: if more than half of the logits are equal, all
/// others have scores without bound. Up to rounding, scores do not change when all logits are
/// shifted or scaled alike.
///
/// F. R. Hampel, The influence curve and its role in robust estimation, JASA 69 (1974), section 5,
/// doi:10.1080/01621459.1974.10482962.
struct RobustZScore {
  /// What a null distribution records, and what policy strings say.
  static constexpr std::string_view name = "robust_zscore";

  ScoreMap operator()(std::span<const float> logits) const noexcept {
    std::array<double, max_experts> values;
    values.front() = 0.0;  // compilers do not know that a logit is finite
    std::size_t n = 0;
    for (const float x : logits) {
      if (std::isfinite(x)) values[n++] = static_cast<double>(x);
    }
    const std::span finite(values.data(), n);
    const double centre = median(finite);
    for (double& x : finite) x = std::abs(x - centre);
    constexpr double sd_of_mad = 1.4826022185056018;
    constexpr double limit = std::numeric_limits<float>::max();
    return {static_cast<float>(centre),
            static_cast<float>(std::min(1.0 / (sd_of_mad * median(finite)), limit))};
  }

 private:
  static double median(std::span<double> values) noexcept {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    if (values.size() % 2 == 1) return *middle;
    return (*middle + *std::max_element(values.begin(), middle)) / 2.0;
  }
};

}  // namespace fdroute::inline v0
