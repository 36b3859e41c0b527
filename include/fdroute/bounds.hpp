#pragma once

#include <algorithm>
#include <limits>

#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// ExpertBounds: the number of experts that a token may get, applied after the rule.
///
///     count = min(max(the rule's count, min_k), max_k)
///
/// A bound never changes what the rule searched: the rule sees all p-values, then its count is
/// clamped. A token on which the rule rejects nothing gets min_k experts. A max_k above the number
/// of experts means all of them.
///
/// A bound that acts voids the rule's error rate. min_k adds experts that no test has rejected. A
/// cap keeps the smallest p-values of the rejected ones, and the false discovery rate of these may
/// exceed alpha many times: 60 non-nulls at p = 0.04 and 4 uniform nulls give Benjamini-Hochberg at
/// 0.05 a rate of 0.003, and one of 0.15 with max_k = 1
/// (tests/library/rules/error_control_test.cpp; E. Katsevich, C. Sabatti and M. Bogomolov,
/// Filtering the rejection set while preserving false discovery rate control, J. Am. Stat. Assoc.
/// 118 (2023), doi:10.1080/01621459.2021.1920958). true_discoveries()
/// (fdroute/multiple_testing.hpp) has a bound that holds under any cap.
struct ExpertBounds {
  /// As max_k: no upper bound.
  static constexpr int all = std::numeric_limits<int>::max();

  int min_k = 1;
  int max_k = all;

  constexpr int operator()(int count) const noexcept { return std::clamp(count, min_k, max_k); }

  /// Throws std::invalid_argument unless 0 <= min_k <= max_k, 1 <= max_k and min_k <= experts.
  void validate(int experts) const {
    if (min_k < 0 || max_k < 1 || min_k > max_k) {
      detail::refuse("ExpertBounds: 0 <= min_k <= max_k and max_k >= 1 must hold, got min_k ",
                     min_k, ", max_k ", max_k);
    }
    if (min_k > experts) {
      detail::refuse("ExpertBounds: min_k ", min_k, " exceeds the number of experts, ", experts);
    }
  }
};

}  // namespace fdroute::inline v0
