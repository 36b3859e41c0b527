#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/order.hpp"

namespace fdroute::inline v0::detail {

/// The smallest score, finite or +inf, whose p-value is at most `critical_p`; NaN if there is none.
///
/// Found by bisection over the representable floats, so comparing a score with it is the same as
/// comparing the score's p-value, computed in double, with `critical_p`.
template <NullDistribution N>
float critical_score(const N& null, double critical_p) noexcept {
  const auto passes = [&](std::uint32_t bits) {
    return null(static_cast<double>(from_ordered_bits(bits))) <= critical_p;
  };
  std::uint32_t low = ordered_bits(std::numeric_limits<float>::lowest());
  std::uint32_t high = ordered_bits(std::numeric_limits<float>::infinity());
  if (!passes(high)) return std::numeric_limits<float>::quiet_NaN();
  while (low < high) {
    const std::uint32_t middle = low + (high - low) / 2;
    if (passes(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return from_ordered_bits(high);
}

/// The critical scores t_1 >= t_2 >= ... >= t_m of a step-up rule: p(k) <= critical_value(k, m)
/// exactly when the k-th largest score is >= t_k.
template <StepUpRule R, NullDistribution N>
std::vector<float> critical_scores(const R& rule, const N& null, int experts) {
  std::vector<float> scores(static_cast<std::size_t>(experts));
  for (int k = 1; k <= experts; ++k)
    scores[static_cast<std::size_t>(k - 1)] = critical_score(null, rule.critical_value(k, experts));
  return scores;
}

/// The step-up count of a row from critical scores alone: no p-value, no sort.
///
/// Start at k = m and set k <- #{scores >= t_k} until k repeats. Let k* be the step-up answer. As
/// long as k >= k*, t_k <= t_k*, so at least k* scores pass and k never falls below k*; a k that
/// repeats has its k largest scores at or above t_k, so k <= k*. NaN passes nothing, on either
/// side.
inline int step_up_count(std::span<const float> logits, ScoreMap score,
                         std::span<const float> critical) noexcept {
  int k = static_cast<int>(logits.size());
  while (k > 0) {
    const float threshold = critical[static_cast<std::size_t>(k - 1)];
    int passing = 0;
    for (const float x : logits) passing += static_cast<int>(score(x) >= threshold);
    if (passing == k) break;
    k = passing;
  }
  return k;
}

}  // namespace fdroute::inline v0::detail
