#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

#include "fdroute/errors.hpp"

namespace fdroute::inline v0::detail {

/// min(1, p / weight); 1 for weight 0.
inline double weighted_p(double p, double weight) noexcept {
  return weight > 0.0 ? std::min(1.0, p / weight) : 1.0;
}

/// Throws std::invalid_argument unless weights are finite, >= 0 and have mean 1 to 1e-6.
inline void validate_p_value_weights(const char* user, std::span<const double> weights) {
  double sum = 0.0;
  for (std::size_t j = 0; j < weights.size(); ++j) {
    if (!(weights[j] >= 0.0 && std::isfinite(weights[j]))) {
      refuse(user, ": weights[", j, "] must be finite and >= 0, got ", weights[j]);
    }
    sum += weights[j];
  }
  const double mean = sum / static_cast<double>(weights.size());
  if (!(std::abs(mean - 1.0) <= 1e-6)) {
    refuse(user, ": the weights' mean must be 1, got ", mean);
  }
}

}  // namespace fdroute::inline v0::detail
