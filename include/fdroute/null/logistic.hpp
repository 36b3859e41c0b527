#pragma once

#include <cmath>
#include <limits>
#include <numbers>

#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// LogisticNull: scores of unneeded experts follow a logistic distribution,
///
///     p = P(S >= score) = 1 / (1 + exp((score - location) / scale))
///
/// in double. Its tail, exp(-score / scale), is heavier than a normal one: strong experts are less
/// surprising. p lies in [0, 1] and is 1 at -inf and 0 at +inf. It is within a relative 2e-13 down
/// to 1e-307, within 5e-324 below that, and 0 from 745.2 scales above the location on.
///
/// `location` and `scale` are in units of the score; `location` is finite, `scale` positive and
/// finite. A Router throws std::invalid_argument otherwise. The defaults suit ZScore: mean 0 and
/// standard deviation 1.
struct LogisticNull {
  double location = 0.0;
  double scale = std::numbers::sqrt3 / std::numbers::pi;

  double operator()(double score) const noexcept {
    const double z = (score - location) / scale;
    // From 40 on the 1 is less than half an ulp of exp(z), which overflows before p is 0.
    return z < 40.0 ? 1.0 / (1.0 + std::exp(z)) : std::exp(-z);
  }

  void validate() const {
    constexpr double largest = std::numeric_limits<double>::max();
    if (!(std::abs(location) <= largest)) {
      detail::refuse("LogisticNull: location must be finite, got ", location);
    }
    if (!(scale > 0.0 && scale <= largest)) {
      detail::refuse("LogisticNull: scale must be positive and finite, got ", scale);
    }
  }
};

}  // namespace fdroute::inline v0
