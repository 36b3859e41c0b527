#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "fdroute/bounds.hpp"
#include "fdroute/concepts.hpp"
#include "fdroute/detail/rule/critical_scores.hpp"
#include "fdroute/detail/rule/expert_critical_scores.hpp"

namespace fdroute::inline v0::detail {

/// How a router finds the number of a token's experts.
enum class CountKind : std::uint8_t {
  fixed,            // by a rule that counts alike in all rows
  logits,           // by a rule that reads logits
  margin,           // by one of Kernel::margin
  nucleus,          // by one of Kernel::nucleus
  critical_scores,  // by critical values, with one null distribution
  p,                // by a rule that reads p-values, with one null distribution
  // With a null distribution for every expert:
  expert_fixed,
  expert_critical_scores,
  expert_p,
};

constexpr bool by_expert_p(CountKind kind) noexcept {
  return kind >= CountKind::expert_fixed;
}

constexpr bool is_fixed(CountKind kind) noexcept {
  return kind == CountKind::fixed || kind == CountKind::expert_fixed;
}

constexpr bool reads_logits(CountKind kind) noexcept {
  return kind >= CountKind::logits && kind <= CountKind::nucleus;
}

constexpr bool by_critical_values(CountKind kind) noexcept {
  return kind == CountKind::critical_scores || kind == CountKind::expert_critical_scores;
}

/// What the types of a rule and a null distribution say of the count. Specialised for types that
/// stand for any policy and know it when they are made (detail/policy_string/any_policy.hpp).
template <class R, class N>
struct CountOf {
  static constexpr CountKind kind = [] {
    if constexpr (ExpertNull<N>) {
      if constexpr (FixedCountRule<R>) return CountKind::expert_fixed;
      return CriticalValueRule<R> ? CountKind::expert_critical_scores : CountKind::expert_p;
    }
    if constexpr (FixedCountRule<R>) return CountKind::fixed;
    if constexpr (CriticalValueRule<R>) return CountKind::critical_scores;
    if constexpr (!LogitRule<R>) return CountKind::p;
    if constexpr (kernel_of<R> == Kernel::margin) return CountKind::margin;
    return kernel_of<R> == Kernel::nucleus ? CountKind::nucleus : CountKind::logits;
  }();

  static constexpr CountKind kind_of(const R&, const N&) noexcept { return kind; }
  static constexpr bool step_down(const R&) noexcept { return StepDownRule<R>; }

  /// f(kind), a std::integral_constant. f is to call a template of the kind: what is compiled is
  /// then for this kind alone.
  template <class F>
  static decltype(auto) visit(const R&, const N&, const F& f) {
    return f(std::integral_constant<CountKind, kind>{});
  }
};

/// What a router is made of.
template <class R, class S, class N, class W, class K>
struct RouterParts {
  R rule;
  S score;
  N null;
  W weights;
  K ranking;
  ExpertBounds bounds;
  int experts;
  std::vector<float> critical{};  // critical_table()

  constexpr CountKind count_kind() const noexcept { return CountOf<R, N>::kind_of(rule, null); }
  constexpr bool step_down() const noexcept { return CountOf<R, N>::step_down(rule); }

  /// See CountOf::visit.
  template <class F>
  decltype(auto) with_count_kind(const F& f) const {
    return CountOf<R, N>::visit(rule, null, f);
  }

  int bounded(int count) const noexcept { return std::min(bounds(count), experts); }

  /// The largest number of experts a token can get.
  int capacity() const noexcept {
    if constexpr (FixedCountRule<R>) {
      if (is_fixed(count_kind())) return bounded(rule.count(experts));
    }
    return std::min(bounds.max_k, experts);
  }
};

template <CountKind kind, class P>
std::vector<float> critical_table_of_kind(const P& parts) {
  if constexpr (kind == CountKind::critical_scores) {
    return kernel_table(critical_scores(parts.rule, parts.null, parts.experts));
  } else if constexpr (kind == CountKind::expert_critical_scores) {
    return ExpertCriticalScores::table(parts.rule, parts.null, parts.experts);
  } else {
    return {};
  }
}

/// RouterParts::critical.
template <class P>
std::vector<float> critical_table(const P& parts) {
  return parts.with_count_kind([&](auto kind) { return critical_table_of_kind<kind()>(parts); });
}

}  // namespace fdroute::inline v0::detail
