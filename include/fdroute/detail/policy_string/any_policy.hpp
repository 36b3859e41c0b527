#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/rule/survival_table.hpp"
#include "fdroute/null/tabulated.hpp"

/// Policies chosen at run time, as few types: every pair of a rule's and a null's type that a
/// Router is made of costs compile time and code. Results are those of the policies they stand for.

namespace fdroute::inline v0::detail {

/// Any rule that reads p-values.
struct AnyRule {
  std::function<int(std::span<const double>)> rule;

  int operator()(std::span<const double> sorted_p) const noexcept { return rule(sorted_p); }
};

/// Any rule by critical values, for one number of experts. A Router compares the rule's own count
/// with that of its values.
template <bool down>
struct AnyStepRule : AnyRule {
  static constexpr bool step_down = down;
  std::vector<double> values;

  double critical_value(int k, int) const noexcept {
    return values[static_cast<std::size_t>(k - 1)];
  }
};

template <CriticalValueRule R>
auto any_step_rule(const R& rule, int experts) {
  AnyStepRule<StepDownRule<R>> any{{rule}, {}};
  for (int k = 1; k <= experts; ++k) any.values.push_back(rule.critical_value(k, experts));
  return any;
}

/// Any null distribution, for the score of this name.
struct AnyNull {
  std::function<double(double)> survival;
  std::string score;

  double operator()(double at) const noexcept { return survival(at); }

  /// The table that it stands for, if it does for one: see Kernel::table.
  const SurvivalTable* table() const noexcept {
    const auto* tabulated = survival.target<TabulatedNull>();
    return tabulated == nullptr ? nullptr : tabulated->table();
  }

  std::string_view fitted_on() const noexcept { return score; }
};

}  // namespace fdroute::inline v0::detail

namespace fdroute::inline v0 {

template <>
inline constexpr Kernel kernel_of<detail::AnyNull> = Kernel::table;

}  // namespace fdroute::inline v0
