#pragma once

#include <algorithm>
#include <vector>

#include "fdroute/bounds.hpp"
#include "fdroute/concepts.hpp"

namespace fdroute::inline v0::detail {

/// What a router is made of.
template <class R, class S, class N, class W, class K>
struct RouterParts {
  /// The rule is evaluated on critical scores, not on p-values.
  static constexpr bool has_critical_scores = CriticalValueRule<R> && NullDistribution<N>;

  R rule;
  S score;
  N null;
  W weights;
  K ranking;
  ExpertBounds bounds;
  int experts;
  std::vector<float> critical{};  // critical_table()

  int bounded(int count) const noexcept { return std::min(bounds(count), experts); }

  /// The largest number of experts a token can get.
  int capacity() const noexcept {
    if constexpr (FixedCountRule<R>) return bounded(rule.count(experts));
    return std::min(bounds.max_k, experts);
  }
};

}  // namespace fdroute::inline v0::detail
