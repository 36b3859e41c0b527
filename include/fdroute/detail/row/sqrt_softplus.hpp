#pragma once

#include <algorithm>
#include <cmath>

namespace fdroute::inline v0::detail {

/// sqrt(log(1 + exp(x))), in double; exact limits 0 at -inf and +inf at +inf. x is no NaN.
inline double sqrt_softplus(float x) noexcept {
  const auto y = static_cast<double>(x);
  return std::sqrt(std::max(y, 0.0) + std::log1p(std::exp(-std::abs(y))));
}

}  // namespace fdroute::inline v0::detail
