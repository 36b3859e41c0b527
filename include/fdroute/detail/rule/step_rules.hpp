#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "fdroute/errors.hpp"

namespace fdroute::inline v0::detail {

/// What every rule at a level alpha demands of it.
inline void validate_alpha(const char* rule, double alpha) {
  if (!(alpha > 0.0 && alpha < 1.0)) {
    refuse(rule, ": alpha must lie in (0, 1), got ", alpha);
  }
}

/// max { k : p(k) <= critical(k) }, 0 if there is none.
template <class Critical>
constexpr int step_up(std::span<const double> sorted_p, const Critical& critical) noexcept {
  for (int k = static_cast<int>(sorted_p.size()); k > 0; --k) {
    if (sorted_p[static_cast<std::size_t>(k - 1)] <= critical(k)) return k;
  }
  return 0;
}

/// max { k : p(i) <= critical(i) for all i <= k }, 0 if there is none.
template <class Critical>
constexpr int step_down(std::span<const double> sorted_p, const Critical& critical) noexcept {
  const int m = static_cast<int>(sorted_p.size());
  int k = 0;
  while (k < m && sorted_p[static_cast<std::size_t>(k)] <= critical(k + 1)) ++k;
  return k;
}

/// Replaces sorted p-values by the smallest alpha at which the step-up rule rejects each, at
/// most 1. `level(p, k)` is the smallest alpha whose critical value at k reaches p.
template <class Level>
constexpr void adjust_step_up(std::span<double> sorted_p, const Level& level) noexcept {
  double smallest = 1.0;
  for (int k = static_cast<int>(sorted_p.size()); k > 0; --k) {
    double& p = sorted_p[static_cast<std::size_t>(k - 1)];
    p = smallest = std::min(smallest, level(p, k));
  }
}

/// Replaces sorted p-values by the smallest alpha at which the step-down rule rejects each, at most
/// 1, with adjust_step_up()'s `level`.
template <class Level>
constexpr void adjust_step_down(std::span<double> sorted_p, const Level& level) noexcept {
  double largest = 0.0;
  for (int k = 1; k <= static_cast<int>(sorted_p.size()); ++k) {
    double& p = sorted_p[static_cast<std::size_t>(k - 1)];
    p = largest = std::min(1.0, std::max(largest, level(p, k)));
  }
}

}  // namespace fdroute::inline v0::detail
