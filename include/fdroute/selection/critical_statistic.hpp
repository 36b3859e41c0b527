#pragma once

#include <concepts>
#include <stdexcept>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/boundary_crossing.hpp"
#include "fdroute/detail/requirements.hpp"
#include "fdroute/detail/strongest_deviation.hpp"
#include "fdroute/detail/text.hpp"

namespace fdroute::inline v0 {

/// A rule that cuts at the largest of a statistic over the sorted p-values: HigherCriticism,
/// BerkJones. `boundary(value, i, n)` is the largest p(i) at which the statistic reaches `value`;
/// it falls in `value` and rises in i.
template <class R>
concept DeviationRule = Rule<R> && requires(const R& rule, double value, int i, int n) {
  { rule.search } -> std::convertible_to<double>;
  { rule.critical } -> std::convertible_to<double>;
  { rule.statistic(value, i, n) }
  noexcept->std::same_as<double>;
  { rule.boundary(value, i, n) }
  noexcept->std::same_as<double>;
};

/// The value that a rule's largest statistic reaches with probability `level` if the p-values of
/// all `experts` are independent and uniform: what to set `critical` to, so that a token of pure
/// noise gets no rejection but at this rate. Exact for every number of experts, not asymptotic:
/// bisection on the probability that uniform order statistics cross the boundary, to a relative
/// 1e-12.
///
/// `level` lies in (0, 1]; a level so large that no gate is needed gives 0. Throws
/// std::invalid_argument otherwise, and where `rule` is not valid. Allocates.
template <class R>
double critical_statistic(const R& rule, int experts, double level) {
  static_assert(sizeof(detail::RuleRequirements<R>) > 0);
  static_assert(DeviationRule<R> || !Rule<R>,
                "fdroute: R must satisfy DeviationRule: it lacks `search`, `critical`, "
                "`double statistic(double p, int i, int n) const noexcept` or "
                "`double boundary(double value, int i, int n) const noexcept`");
  rule.validate(experts);
  if (!(level > 0.0 && level <= 1.0)) {
    throw std::invalid_argument("critical_statistic: level must lie in (0, 1], got " +
                                detail::to_text(level));
  }
  std::vector<double> bounds;
  const auto too_likely = [&](double value) {
    bounds.clear();
    for (int i = 1; i <= detail::searched(rule.search, experts); ++i)
      bounds.push_back(rule.boundary(value, i, experts));
    return detail::boundary_crossing_probability(experts, bounds) > level;
  };
  if (!too_likely(0.0)) return 0.0;
  double low = 0.0;
  double high = 1.0;
  while (too_likely(high)) {
    low = high;
    high *= 2.0;
  }
  while (high - low > 1e-12 * high) {
    const double middle = 0.5 * (low + high);
    (too_likely(middle) ? low : high) = middle;
  }
  return high;
}

}  // namespace fdroute::inline v0
