#pragma once

#include <cmath>
#include <limits>
#include <numbers>
#include <stdexcept>

#include "fdroute/detail/text.hpp"

namespace fdroute::inline v0 {

/// LogisticNull: scores of unneeded experts follow a logistic distribution,
///
///     p = P(S >= score) = 1 / (1 + exp((score - location) / scale))
///
/// whose tail, exp(-score / scale), is heavier than a normal one: strong experts are less
/// surprising. p keeps its relative accuracy down to 1e-308 and is 0 beyond. `location` is finite,
/// `scale` positive and finite; a Router throws std::invalid_argument otherwise. With the defaults
/// its standard deviation is 1 and it suits ZScore.
struct LogisticNull {
  double location = 0.0;
  double scale = std::numbers::sqrt3 / std::numbers::pi;

  double operator()(double score) const noexcept {
    return 1.0 / (1.0 + std::exp((score - location) / scale));
  }

  void validate() const {
    constexpr double largest = std::numeric_limits<double>::max();
    if (!(std::abs(location) <= largest)) {
      throw std::invalid_argument("LogisticNull: location must be finite, got " +
                                  detail::to_text(location));
    }
    if (!(scale > 0.0 && scale <= largest)) {
      throw std::invalid_argument("LogisticNull: scale must be positive and finite, got " +
                                  detail::to_text(scale));
    }
  }
};

}  // namespace fdroute::inline v0
