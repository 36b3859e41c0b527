#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/checks/requirements.hpp"
#include "fdroute/detail/rule/boundary_crossing.hpp"
#include "fdroute/detail/rule/strongest_deviation.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// A rule that cuts at the largest of a statistic over the n sorted p-values: HigherCriticism,
/// BerkJones. `search` is the share of places searched, `critical` the gate. `statistic(p, i, n)`
/// is the statistic of p(i) = p. `boundary(value, i, n)` is the largest p(i) at which it reaches
/// `value`; it falls in `value` and rises in i.
template <class R>
concept DeviationRule = Rule<R> && requires(const R& rule, double value, int i, int n) {
  { rule.search } -> std::convertible_to<double>;
  { rule.critical } -> std::convertible_to<double>;
  { rule.statistic(value, i, n) }
  noexcept->std::same_as<double>;
  { rule.boundary(value, i, n) }
  noexcept->std::same_as<double>;
};

/// The gate of a rule for pure noise: the value c for which
///
///     P(max_i statistic(p(i), i, n) >= c) = level,   p(1) <= ... <= p(n) sorted uniform variables
///
/// over the places i that the rule searches, n being `experts`. With `critical` = c, a token of
/// pure noise gets a rejection with probability `level` only. It is exact for every number of
/// experts, not asymptotic: bisection on the probability that uniform order statistics cross the
/// boundary. The value is within a relative 1e-11, at small levels as at large ones: the small
/// probability is computed itself, never as 1 less a number near 1.
///
/// `level` lies in [1e-300, 1]: the p-values that matter, down to level / experts, are then normal
/// numbers. A level so large that no gate is needed gives 0. Throws std::invalid_argument
/// otherwise, and where `rule` is not valid. Allocates.
template <class R>
double critical_statistic(const R& rule, int experts, double level) {
  static_assert(sizeof(detail::RuleRequirements<R>) > 0);
  static_assert(DeviationRule<R> || !Rule<R>,
                "fdroute: R must satisfy DeviationRule: it lacks `search`, `critical`, "
                "`double statistic(double p, int i, int n) const noexcept` or "
                "`double boundary(double value, int i, int n) const noexcept`");
  rule.validate(experts);
  if (!(level >= 1e-300 && level <= 1.0)) {
    detail::refuse("critical_statistic: level must lie in [1e-300, 1], got ", level);
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
    high *= 2.0 * high;
  }
  // Halves the number of doubles in between: fewer steps than halving the distance where `high` may
  // be 1e150.
  auto low_bits = std::bit_cast<std::uint64_t>(low);
  auto high_bits = std::bit_cast<std::uint64_t>(high);
  while (high_bits - low_bits > 1024) {
    const std::uint64_t middle = low_bits + (high_bits - low_bits) / 2;
    (too_likely(std::bit_cast<double>(middle)) ? low_bits : high_bits) = middle;
  }
  return std::bit_cast<double>(high_bits);
}

}  // namespace fdroute::inline v0
