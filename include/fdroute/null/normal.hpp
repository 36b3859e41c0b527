#pragma once

#include <cmath>
#include <limits>
#include <numbers>
#include <stdexcept>

#include "fdroute/detail/number/to_text.hpp"

namespace fdroute::inline v0 {

/// NormalNull: scores of unneeded experts are normal,
///
///     p = P(S >= score) = erfc((score - mean) / (sd sqrt(2))) / 2
///
/// by the complementary error function, so that p keeps its relative accuracy far into the tail,
/// where 1 - cdf is 0. `mean` is finite, `sd` positive and finite; a Router throws
/// std::invalid_argument otherwise. With the defaults it suits ZScore.
struct NormalNull {
  double mean = 0.0;
  double sd = 1.0;

  double operator()(double score) const noexcept {
    return 0.5 * std::erfc((score - mean) / sd / std::numbers::sqrt2);
  }

  void validate() const {
    constexpr double largest = std::numeric_limits<double>::max();
    if (!(std::abs(mean) <= largest))
      throw std::invalid_argument("NormalNull: mean must be finite, got " + detail::to_text(mean));
    if (!(sd > 0.0 && sd <= largest)) {
      throw std::invalid_argument("NormalNull: sd must be positive and finite, got " +
                                  detail::to_text(sd));
    }
  }
};

}  // namespace fdroute::inline v0
