#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/checks/check_policies.hpp"
#include "fdroute/detail/checks/requirements.hpp"
#include "fdroute/detail/rule/weighted_p.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/selection/hommel.hpp"

/// The rules as multiple-testing procedures, without a router: on p-values in any order.
///
/// `p`, shape (m), holds p-values in [0, 1]; NaN counts among them as 1. All functions throw
/// std::invalid_argument if any other p-value lies outside, or if `rule` is not valid for m
/// hypotheses. All allocate and take O(m log m), besides what the rule takes.

namespace fdroute::inline v0 {

/// A rule with adjusted p-values: replaces sorted p-values, shape (m), by adjusted ones, in order.
template <class R>
concept AdjustingRule = Rule<R> && requires(const R& rule, std::span<double> sorted_p) {
  rule.adjust(sorted_p);
};

namespace detail {

inline double checked_p(std::span<const double> p, std::size_t j) {
  if (std::isnan(p[j])) return 1.0;
  if (p[j] >= 0.0 && p[j] <= 1.0) return p[j];
  detail::refuse("p[", j, "] must lie in [0, 1], got ", p[j]);
}

template <class R>
std::vector<double> sorted_for(const R& rule, std::span<const double> p) {
  static_assert(sizeof(RuleRequirements<R>) > 0);
  static_assert(Rule<R> || !LogitRule<R>, "fdroute: this rule reads logits, not p-values");
  validate_policy(rule, static_cast<int>(p.size()));
  std::vector<double> sorted(p.size());
  for (std::size_t j = 0; j < p.size(); ++j) sorted[j] = checked_p(p, j);
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

template <class R>
int count_of(const R& rule, std::span<const double> sorted_p) {
  return std::clamp(rule(sorted_p), 0, static_cast<int>(sorted_p.size()));
}

}  // namespace detail

/// The number of hypotheses that `rule` rejects: those of the smallest p-values.
template <class R>
int rejections(const R& rule, std::span<const double> p) {
  return detail::count_of(rule, detail::sorted_for(rule, p));
}

/// The largest p-value that `rule` rejects; nothing if it rejects none. All smaller ones are
/// rejected too.
template <class R>
std::optional<double> threshold(const R& rule, std::span<const double> p) {
  const std::vector<double> sorted = detail::sorted_for(rule, p);
  const int count = detail::count_of(rule, sorted);
  if (count == 0) return std::nullopt;
  return sorted[static_cast<std::size_t>(count - 1)];
}

/// Writes the adjusted p-values, out[j] that of p[j]; both have shape (m) and may be the same.
///
/// out[j] is the smallest alpha at which the rule, its other fields being equal, rejects p[j], or 1
/// if there is none below 1. So `rule` rejects p[j] exactly when out[j] <= rule.alpha, as far as
/// rounding goes: the two are computed differently, and may disagree if out[j] is within 1e-12
/// alpha of alpha. For TwoStageBKY this holds at the rule's own alpha only, which its first stage
/// uses. Throws std::invalid_argument also if `out` has another size.
template <class R>
void adjusted(const R& rule, std::span<const double> p, std::span<double> out) {
  static_assert(AdjustingRule<R> || !Rule<R>,
                "fdroute: R must satisfy AdjustingRule: it has no adjust() const that takes "
                "std::span<double>, sorted p-values");
  if (out.size() != p.size()) {
    detail::refuse("adjusted: ", p.size(), " p-values, room for ", out.size());
  }
  std::vector<double> sorted = detail::sorted_for(rule, p);
  const std::vector<double> before = sorted;
  rule.adjust(std::span<double>(sorted));
  for (std::size_t j = 0; j < p.size(); ++j) {
    // Equal p-values have equal adjusted ones, those of the last of them.
    const auto after =
        std::upper_bound(before.begin(), before.end(), detail::checked_p(p, j)) - before.begin();
    out[j] = sorted[static_cast<std::size_t>(after - 1)];
  }
}

/// A lower bound on the number of non-nulls among the hypotheses `selected`, shape (any), indices
/// into p:
///
///     d = max { 1 - u + #{ j in selected : h p_j <= u alpha } : 1 <= u <= |selected| }
///
/// with h as Hommel defines it. With probability 1 - alpha or more it holds for all selections at
/// once, so for one made after seeing p, by any rule and under any bounds: at most
/// (|selected| - d) / |selected| of it are nulls. The probability is that of Simes' inequality, as
/// for Hommel. Takes O(m log m). Throws std::invalid_argument as said above, and for an index that
/// is out of range or comes twice.
///
/// J. J. Goeman, R. J. Meijer, T. J. P. Krebs and A. Solari, Simultaneous control of all false
/// discovery proportions in large-scale multiple hypothesis testing, Biometrika 106 (2019),
/// doi:10.1093/biomet/asz041
inline int true_discoveries(double alpha, std::span<const double> p,
                            std::span<const std::size_t> selected) {
  const Hommel rule{alpha};
  const double h = rule.standing(detail::sorted_for(rule, p));
  std::vector<bool> seen(p.size(), false);
  std::vector<double> chosen;
  for (const std::size_t j : selected) {
    if (j >= p.size() || seen[j]) {
      detail::refuse("true_discoveries: index " + std::to_string(j) +
                     (j < p.size() ? " comes twice" : " is out of range"));
    }
    seen[j] = true;
    chosen.push_back(h * detail::checked_p(p, j));
  }
  std::sort(chosen.begin(), chosen.end());
  int best = 0;
  std::size_t within = 0;
  for (std::size_t u = 1; u <= chosen.size(); ++u) {
    while (within < chosen.size() && chosen[within] <= static_cast<double>(u) * alpha) ++within;
    best = std::max(best, 1 - static_cast<int>(u) + static_cast<int>(within));
  }
  return best;
}

/// Weighted p-values, shape (m),
///
///     min(1, p_j / weights_j),   1 where weights_j = 0
///
/// for weighted Benjamini-Hochberg and its like (see WeightedNull): a rule rejects p_j if it
/// rejects the weighted one. Throws std::invalid_argument as said above, and unless the weights,
/// one for each p-value, are finite, at least 0 and of mean 1 (to 1e-6).
inline std::vector<double> weighted_p_values(std::span<const double> p,
                                             std::span<const double> weights) {
  if (p.size() != weights.size()) {
    detail::refuse("weighted_p_values: ", p.size(), " p-values, ", weights.size(), " weights");
  }
  detail::validate_p_value_weights("weighted_p_values", weights);
  std::vector<double> weighted(p.size());
  for (std::size_t j = 0; j < p.size(); ++j)
    weighted[j] = detail::weighted_p(detail::checked_p(p, j), weights[j]);
  return weighted;
}

}  // namespace fdroute::inline v0
