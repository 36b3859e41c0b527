#pragma once

#include "fdroute/detail/number/total_order.hpp"

namespace fdroute::inline v0::detail {

/// The smallest float >= x + y, where the sum is exact, not rounded to double. Infinite for an
/// infinite x. The sum is in float's range.
constexpr float rounded_up_sum(float x, double y) noexcept {
  const auto a = static_cast<double>(x);
  const double sum = a + y;
  // D. E. Knuth, The Art of Computer Programming 2, section 4.2.2, theorem B.
  const double of_y = sum - a;
  const double error = (a - (sum - of_y)) + (y - of_y);
  const auto near = static_cast<float>(sum);
  const auto rounded = static_cast<double>(near);
  const bool below = rounded < sum || (rounded == sum && error > 0.0);
  return below ? from_ordered(ordered(near) + 1) : near;
}

}  // namespace fdroute::inline v0::detail
