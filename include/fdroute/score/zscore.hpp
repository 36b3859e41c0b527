#pragma once

#include <cmath>
#include <limits>
#include <span>
#include <string_view>

#include "fdroute/concepts.hpp"

namespace fdroute::inline v0 {

/// ZScore: the logit standardised within its token,
///
///     score_j = (logit_j - mean) / sd,   sd^2 = (1/n) sum_i (logit_i - mean)^2
///
/// over the token's n finite logits, in index order and in double; mean and 1/sd are rounded to
/// float once. A row of equal logits has sd = 0: all its scores are 0.
struct ZScore {
  static constexpr std::string_view name = "zscore";

  ScoreMap operator()(std::span<const float> logits) const noexcept {
    double sum = 0.0;
    int n = 0;
    for (const float x : logits) {
      if (std::isfinite(x)) {
        sum += static_cast<double>(x);
        ++n;
      }
    }
    const double mean = sum / n;
    double squares = 0.0;
    for (const float x : logits) {
      if (std::isfinite(x)) {
        const double deviation = static_cast<double>(x) - mean;
        squares += deviation * deviation;
      }
    }
    const double inverse_sd = 1.0 / std::sqrt(squares / n);
    // Also a spread too small or too large for a float's reciprocal counts as none or as the limit.
    const bool usable = inverse_sd <= static_cast<double>(std::numeric_limits<float>::max()) &&
                        inverse_sd >= static_cast<double>(std::numeric_limits<float>::min());
    return {static_cast<float>(mean), usable ? static_cast<float>(inverse_sd) : 1.0F};
  }
};

}  // namespace fdroute::inline v0
