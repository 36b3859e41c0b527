#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/number/total_order.hpp"
#include "fdroute/detail/simd/registers.hpp"

namespace fdroute::inline v0::detail {

/// The smallest score, finite or +inf, whose p-value null(score) is at most `critical_p`; NaN if
/// there is none.
///
/// Found by bisection over the representable floats, so comparing a score with it is the same as
/// comparing the score's p-value, computed in double, with `critical_p`.
template <class Survival>
float critical_score(const Survival& null, double critical_p) noexcept {
  const auto passes = [&](std::int32_t score) {
    return null(static_cast<double>(from_ordered(score))) <= critical_p;
  };
  std::int32_t low = ordered(std::numeric_limits<float>::lowest());
  std::int32_t high = ordered(std::numeric_limits<float>::infinity());
  if (!passes(high)) return std::numeric_limits<float>::quiet_NaN();
  while (low < high) {
    const std::int32_t middle = std::midpoint(low, high);  // below high
    if (passes(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return from_ordered(high);
}

/// The critical scores t_1 >= t_2 >= ... >= t_m of a rule: p(k) <= critical_value(k, m)
/// exactly when the k-th largest score is >= t_k.
template <CriticalValueRule R, NullDistribution N>
std::vector<float> critical_scores(const R& rule, const N& null, int experts) {
  std::vector<float> scores(static_cast<std::size_t>(experts));
  for (int k = 1; k <= experts; ++k)
    scores[static_cast<std::size_t>(k - 1)] = critical_score(null, rule.critical_value(k, experts));
  return scores;
}

/// The table that kernels load from t_1 .. t_m: NaN at 0, t_1 .. t_m, t_m once more, then NaN up to
/// index 16, so that 16 lanes can be loaded from index 1. Nothing reaches NaN.
inline std::vector<float> kernel_table(const std::vector<float>& critical) {
  constexpr float unreachable = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> table{unreachable};
  table.insert(table.end(), critical.begin(), critical.end());
  table.push_back(critical.back());
  table.resize(std::max(table.size(), std::size_t{17}), unreachable);
  return table;
}

/// The count of a rule by critical values, from the critical scores t_1 >= ... >= t_m alone: no
/// p-value, no sort. `reaching(t)` is the number of the row's m scores >= t; a NaN is not counted,
/// nor does anything reach one. The selected scores are those that were counted last.
///
/// Step-up: start at k = m and set k <- reaching(t_k) until k repeats. Let k* be the answer. As
/// long as k >= k*, t_k <= t_k*, so at least k* scores pass and k never falls below k*; a k that
/// repeats has its k largest scores at or above t_k, so k <= k*.
///
/// Step-down: start at k = 0 and set k <- reaching(t_(k+1)) until k repeats. As long as the k
/// largest scores reach their t_1 .. t_k, k <= k*, and reaching(t_(k+1)) >= k; the scores from
/// rank k + 1 on that reach t_(k+1) reach the t of their own rank, which is no larger. A k that
/// repeats has its next score below t_(k+1): k = k*.
///
/// This takes one step, and returns whether k has repeated. `next` is next_thresholds().
template <class Reaching>
FDROUTE_INLINE bool next_count(const float* next, int& k, const Reaching& reaching) noexcept {
  const int before = k;
  k = reaching(next[before]);
  return k == before;
}

/// The threshold to go on with from each k, of a kernel_table().
constexpr const float* next_thresholds(const float* table, bool step_down) noexcept {
  return step_down ? table + 1 : table;
}

/// The k to start with.
constexpr int first_count(bool step_down, int m) noexcept {
  return step_down ? 0 : m;
}

}  // namespace fdroute::inline v0::detail
