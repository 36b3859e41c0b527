#pragma once

#include <algorithm>
#include <span>

#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// TopK: the k largest logits, as in every fixed router.
///
///     count = k
///
/// TopK reads no p-value, so it needs neither score nor null distribution. Masked experts and NaN
/// are selected where fewer than k others are left. `k` lies in [1, experts]; a Router throws
/// std::invalid_argument otherwise.
struct TopK {
  int k = 8;

  /// k, whatever the number of experts: see FixedCountRule.
  constexpr int count(int) const noexcept { return k; }

  /// k, or the number of p-values if that is smaller.
  constexpr int operator()(std::span<const double> sorted_p) const noexcept {
    return std::min(k, static_cast<int>(sorted_p.size()));
  }

  void validate(int experts) const {
    if (k < 1 || k > experts) {
      detail::refuse("TopK: k must lie in [1, ", experts, "], the number of experts, got ", k);
    }
  }
};

}  // namespace fdroute::inline v0
