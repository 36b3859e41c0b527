#pragma once

#include <cmath>
#include <limits>
#include <numbers>

#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// NormalNull: scores of unneeded experts are normal,
///
///     p = P(S >= score) = erfc((score - mean) / (sd sqrt(2))) / 2
///
/// in double, by the complementary error function: p keeps a relative accuracy of 1e-12 far into
/// the tail, where 1 - cdf would be 0. p lies in [0, 1] and is 1 at -inf and 0 at +inf. It is a
/// normal number up to 37.5 sd above the mean and 0 from 38.5 sd on.
///
/// `mean` and `sd` are in units of the score; `mean` is finite, `sd` positive and finite. A Router
/// throws std::invalid_argument otherwise. The defaults suit ZScore: mean 0, standard deviation 1.
struct NormalNull {
  double mean = 0.0;
  double sd = 1.0;

  double operator()(double score) const noexcept {
    return 0.5 * std::erfc((score - mean) / sd / std::numbers::sqrt2);
  }

  void validate() const {
    constexpr double largest = std::numeric_limits<double>::max();
    if (!(std::abs(mean) <= largest)) detail::refuse("NormalNull: mean must be finite, got ", mean);
    if (!(sd > 0.0 && sd <= largest)) {
      detail::refuse("NormalNull: sd must be positive and finite, got ", sd);
    }
  }
};

}  // namespace fdroute::inline v0
