#pragma once

#include <algorithm>
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
/// float once, 1/sd at most to the largest float. A row of equal logits has only scores of 0.
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
        // Fused wherever it runs: a compiler that may fuse would else give other bits.
        squares = std::fma(deviation, deviation, squares);
      }
    }
    const double inverse_sd = 1.0 / std::sqrt(squares / n);
    constexpr double limit = std::numeric_limits<float>::max();
    return {static_cast<float>(mean), static_cast<float>(std::min(inverse_sd, limit))};
  }
};

}  // namespace fdroute::inline v0
