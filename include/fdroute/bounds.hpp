#pragma once

#include <algorithm>
#include <limits>
#include <string>

#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// ExpertBounds: the number of experts that a token may get, applied after the rule.
///
///     count = min(max(the rule's count, min_k), max_k)
///
/// A bound never changes what the rule searched: the rule sees all p-values, then its count is
/// clamped. A token on which the rule rejects nothing gets min_k experts. A max_k above the number
/// of experts means all of them.
struct ExpertBounds {
  /// As max_k: no upper bound.
  static constexpr int all = std::numeric_limits<int>::max();

  int min_k = 1;
  int max_k = all;

  constexpr int operator()(int count) const noexcept { return std::clamp(count, min_k, max_k); }

  /// Throws std::invalid_argument unless 0 <= min_k <= max_k, 1 <= max_k and min_k <= experts.
  void validate(int experts) const {
    if (min_k < 0 || max_k < 1 || min_k > max_k) {
      detail::refuse("ExpertBounds: 0 <= min_k <= max_k and max_k >= 1 must hold, got min_k " +
                     std::to_string(min_k) + ", max_k " + std::to_string(max_k));
    }
    if (min_k > experts) {
      detail::refuse("ExpertBounds: min_k " + std::to_string(min_k) +
                     " exceeds the number of experts, " + std::to_string(experts));
    }
  }
};

}  // namespace fdroute::inline v0
