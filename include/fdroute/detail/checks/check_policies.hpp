#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/number/to_text.hpp"
#include "fdroute/detail/rule/step_rules.hpp"
#include "fdroute/errors.hpp"

// What a router checks when it is made, of policies that anybody may write.

namespace fdroute::inline v0::detail {

/// Calls policy.validate(experts) or policy.validate(), if there is one: a policy has it only if it
/// has something to check.
template <class P>
void validate_policy(const P& policy, int experts) {
  if constexpr (requires { policy.validate(experts); }) {
    policy.validate(experts);
  } else if constexpr (requires { policy.validate(); }) {
    policy.validate();
  } else {
    // A non-const one would be passed over in silence.
    static_assert(
        !requires(P & p) { p.validate(experts); } && !requires(P & p) { p.validate(); },
        "fdroute::Router: a policy's validate() must be const");
  }
}

/// Throws unless the critical values are numbers that do not decrease in k, the last one below 1.
/// On others the steps of detail/rule/critical_scores.hpp need not end.
template <CriticalValueRule R>
void check_critical_values(const R& rule, int experts) {
  // p = 1 would be rejected, and with it masked experts and NaN.
  if (const double last = rule.critical_value(experts, experts); !(last < 1.0)) {
    refuse("Router: critical values must lie below 1, got ", last);
  }
  double before = -std::numeric_limits<double>::infinity();
  for (int k = 1; k <= experts; ++k) {
    const double value = rule.critical_value(k, experts);
    if (!(value >= before)) {
      const std::string after =
          k == 1 ? "" : " after " + to_text(before) + " at k = " + std::to_string(k - 1);
      refuse("Router: critical values must be numbers and not decrease, got ", value, " at k = ", k,
             after);
    }
    before = value;
  }
}

/// Throws if the rule's own count of some p-values is not that of its critical values, which a
/// router would go by. The p-values keep a distance from the critical values: rounding is no
/// disagreement.
template <CriticalValueRule R>
void check_count_by_critical_values(const R& rule, bool down, int experts) {
  const auto m = static_cast<std::size_t>(experts);
  std::vector<double> critical(m);
  for (std::size_t i = 0; i < m; ++i)
    critical[i] = rule.critical_value(static_cast<int>(i) + 1, experts);
  const auto at = [&](int k) { return critical[static_cast<std::size_t>(k - 1)]; };
  const auto near = [&](double p, double c) { return std::abs(p - c) <= 1e-6 * std::abs(c); };
  std::vector<double> p(m);
  const auto check = [&] {
    for (std::size_t i = 0; i < m; ++i) {
      if (near(p[i], critical[i])) return;
    }
    const std::span<const double> sorted(p);
    const int expected = down ? step_down(sorted, at) : step_up(sorted, at);
    if (const int count = rule(sorted); count != expected) {
      refuse("Router: the rule's call operator counts ", count, " of ", experts, " p-values from ",
             p.front(), " to ", p.back(), ", its critical_value() ", expected);
    }
  };
  // p(i) = level, and 1 from some place on; and p(i) that rise as a power of i.
  for (const double level : {0.0, 0.5 * critical.front(), 0.5 * critical.back(), 0.5, 1.0}) {
    for (const std::size_t small : {m, (m + 1) / 2, std::size_t{1}}) {
      std::fill_n(p.begin(), small, std::clamp(level, 0.0, 1.0));
      std::fill(p.begin() + static_cast<std::ptrdiff_t>(small), p.end(), 1.0);
      check();
    }
  }
  for (const double power : {0.5, 1.0, 2.0, 4.0}) {
    for (std::size_t i = 0; i < m; ++i)
      p[i] = std::pow((static_cast<double>(i) + 0.7) / (static_cast<double>(m) + 0.3), power);
    check();
  }
}

/// Throws if the rule's own count of any p-values is not what count() says.
template <FixedCountRule R>
void check_fixed_count(const R& rule, int experts) {
  const int fixed = std::clamp(rule.count(experts), 0, experts);
  for (const double level : {0.0, 1.0}) {
    const std::vector<double> p(static_cast<std::size_t>(experts), level);
    const int count = std::clamp(rule(std::span<const double>(p)), 0, experts);
    if (count != fixed) {
      refuse("Router: the rule's call operator counts ", count, " p-values of ", level,
             ", its count() says ", fixed);
    }
  }
}

/// Some hundreds of scores, ascending: quarters between -16 and 16, beyond these every power of two
/// that is a float, the largest floats and infinity.
inline std::vector<double> probe_scores() {
  constexpr double largest = std::numeric_limits<float>::max();
  std::vector<double> scores{-largest};
  for (int e = 127; e > 4; --e) scores.push_back(-std::ldexp(1.0, e));
  for (int quarters = -64; quarters <= 64; ++quarters) scores.push_back(0.25 * quarters);
  for (int e = 5; e <= 127; ++e) scores.push_back(std::ldexp(1.0, e));
  scores.push_back(largest);
  scores.push_back(std::numeric_limits<double>::infinity());
  return scores;
}

/// Throws unless survival(score) of ascending scores lies in [0, 1] and does not increase by more
/// than rounding, one part in 2^40. `whose` is "" or ", expert 3".
template <class Survival>
void check_survival(const Survival& survival, std::span<const double> scores,
                    const std::string& whose) {
  double before = 1.0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const double p = survival(scores[i]);
    if (!(p >= 0.0 && p <= 1.0)) {
      refuse("Router: a null distribution's p-values must lie in [0, 1], got ", p, " at score ",
             scores[i], whose);
    }
    if (p > before * (1.0 + 0x1p-40)) {
      refuse("Router: a null distribution's p-values must not increase, got ", p, " at score ",
             scores[i], " after ", before, " at score ", scores[i - 1], whose);
    }
    before = p;
  }
}

/// Probes a null distribution, of every expert if it has one for each.
template <bool per_expert, class N>
void check_null(const N& null, int experts) {
  const std::vector<double> scores = probe_scores();
  if constexpr (per_expert) {
    for (int j = 0; j < experts; ++j) {
      check_survival([&](double score) { return null(score, j); }, scores,
                     ", expert " + std::to_string(j));
    }
  } else if constexpr (NullDistribution<N>) {
    check_survival([&](double score) { return null(score); }, scores, "");
  }
}

}  // namespace fdroute::inline v0::detail
