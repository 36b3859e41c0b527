#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "fdroute/concepts.hpp"
#include "fdroute/execution.hpp"
#include "fdroute/null/none.hpp"

// What a policy lacks, in words: one assertion for each requirement of its concept. A structure
// finds the first flaw of a type and asserts that it has none, so one assertion fails, the true
// one.

namespace fdroute::inline v0::detail {

enum class Flaw : std::uint8_t {
  none,
  not_copyable,
  no_member,  // the other one that the concept asks for
  no_call,
  not_const,
  wrong_result,
  may_throw,
  ambiguous,
};

/// The first flaw of calling a const F with Args for a Result.
template <class F, class Result, class... Args>
constexpr Flaw flaw_of_call() noexcept {
  if constexpr (std::is_invocable_v<const F&, Args...>) {
    if (!std::same_as<std::invoke_result_t<const F&, Args...>, Result>) return Flaw::wrong_result;
    return std::is_nothrow_invocable_v<const F&, Args...> ? Flaw::none : Flaw::may_throw;
  } else {
    return std::is_invocable_v<F&, Args...> ? Flaw::not_const : Flaw::no_call;
  }
}

/// The flaw of a policy that may be called in one of two ways: the one that it has.
constexpr Flaw either(Flaw a, Flaw b) noexcept {
  return a == Flaw::no_call || (a == Flaw::not_const && b != Flaw::no_call) ? b : a;
}

template <class R>
struct RuleRequirements {
  static constexpr Flaw of_p = flaw_of_call<R, int, std::span<const double>>();
  static constexpr Flaw of_logits = flaw_of_call<R, int, std::span<const float>>();
  static constexpr bool both = of_p == Flaw::none && of_logits == Flaw::none && !FixedCountRule<R>;
  static constexpr Flaw flaw = !std::copyable<R> ? Flaw::not_copyable
                               : both            ? Flaw::ambiguous
                                                 : either(of_p, of_logits);

  static_assert(flaw != Flaw::not_copyable, "fdroute: R must satisfy Rule: it is not copyable");
  static_assert(flaw != Flaw::no_call,
                "fdroute: R must satisfy Rule or LogitRule: it has no call operator that takes "
                "std::span<const double>, p-values, or std::span<const float>, logits");
  static_assert(flaw != Flaw::not_const,
                "fdroute: R must satisfy Rule: its call operator is not const");
  static_assert(flaw != Flaw::wrong_result,
                "fdroute: R must satisfy Rule: its call operator does not return int");
  static_assert(flaw != Flaw::may_throw,
                "fdroute: R must satisfy Rule: its call operator is not noexcept");
  static_assert(flaw != Flaw::ambiguous,
                "fdroute: R must satisfy Rule or LogitRule, not both: its call operator takes "
                "std::span<const double>, p-values, and std::span<const float>, logits");
};

/// NoNull, too, has none.
template <class N>
struct NullRequirements {
  static constexpr Flaw flaw = std::same_as<N, NoNull> ? Flaw::none
                               : std::copyable<N>      ? either(flaw_of_call<N, double, double>(),
                                                                flaw_of_call<N, double, double, int>())
                                                       : Flaw::not_copyable;

  static_assert(flaw != Flaw::not_copyable,
                "fdroute: N must satisfy NullDistribution: it is not copyable");
  static_assert(flaw != Flaw::no_call,
                "fdroute: N must satisfy NullDistribution or ExpertNull: it has no call operator "
                "that takes a score, double, or a score and an expert, int");
  static_assert(flaw != Flaw::not_const,
                "fdroute: N must satisfy NullDistribution: its call operator is not const");
  static_assert(flaw != Flaw::wrong_result,
                "fdroute: N must satisfy NullDistribution: its call operator does not return "
                "double");
  static_assert(flaw != Flaw::may_throw,
                "fdroute: N must satisfy NullDistribution: its call operator is not noexcept");
};

template <class S>
struct ScoreRequirements {
  static constexpr bool named = requires {
    { S::name } -> std::convertible_to<std::string_view>;
  };
  static constexpr Flaw flaw = !std::copyable<S> ? Flaw::not_copyable
                               : !named          ? Flaw::no_member
                                        : flaw_of_call<S, ScoreMap, std::span<const float>>();

  static_assert(flaw != Flaw::not_copyable, "fdroute: S must satisfy Score: it is not copyable");
  static_assert(
      flaw != Flaw::no_member,
      "fdroute: S must satisfy Score: it has no static member `name`, a std::string_view");
  static_assert(flaw != Flaw::no_call,
                "fdroute: S must satisfy Score: it has no call operator that takes "
                "std::span<const float>, logits");
  static_assert(flaw != Flaw::not_const,
                "fdroute: S must satisfy Score: its call operator is not const");
  static_assert(flaw != Flaw::wrong_result,
                "fdroute: S must satisfy Score: its call operator does not return ScoreMap");
  static_assert(flaw != Flaw::may_throw,
                "fdroute: S must satisfy Score: its call operator is not noexcept");
};

template <class K>
struct RankingRequirements {
  static constexpr bool breaks_ties = requires(const K& ranking) {
    { ranking.ties } -> std::convertible_to<TieOrder>;
  };
  static constexpr Flaw flaw =
      !std::copyable<K> ? Flaw::not_copyable
      : !breaks_ties    ? Flaw::no_member
                        : flaw_of_call<K, void, std::span<const float>, std::span<float>>();

  static_assert(flaw != Flaw::not_copyable, "fdroute: K must satisfy Ranking: it is not copyable");
  static_assert(flaw != Flaw::no_member,
                "fdroute: K must satisfy Ranking: it has no member `ties`, a TieOrder");
  static_assert(flaw != Flaw::no_call,
                "fdroute: K must satisfy Ranking: it has no call operator that takes "
                "std::span<const float>, logits, and std::span<float>, keys");
  static_assert(flaw != Flaw::not_const,
                "fdroute: K must satisfy Ranking: its call operator is not const");
  static_assert(flaw != Flaw::wrong_result,
                "fdroute: K must satisfy Ranking: its call operator does not return void");
  static_assert(flaw != Flaw::may_throw,
                "fdroute: K must satisfy Ranking: its call operator is not noexcept");
};

template <class W>
struct WeightsRequirements {
  static constexpr Flaw flaw = std::copyable<W>
                                   ? flaw_of_call<W, void, std::span<const float>,
                                                  std::span<const std::int32_t>, std::span<float>>()
                                   : Flaw::not_copyable;

  static_assert(flaw != Flaw::not_copyable,
                "fdroute: W must satisfy RoutingWeights: it is not copyable");
  static_assert(flaw != Flaw::no_call,
                "fdroute: W must satisfy RoutingWeights: it has no call operator that takes "
                "std::span<const float>, logits, std::span<const std::int32_t>, experts, and "
                "std::span<float>, weights");
  static_assert(flaw != Flaw::not_const,
                "fdroute: W must satisfy RoutingWeights: its call operator is not const");
  static_assert(flaw != Flaw::wrong_result,
                "fdroute: W must satisfy RoutingWeights: its call operator does not return void");
  static_assert(flaw != Flaw::may_throw,
                "fdroute: W must satisfy RoutingWeights: its call operator is not noexcept");
};

template <class E>
struct ExecutionRequirements {
  struct Body {
    TokenStatus operator()(std::ptrdiff_t) const noexcept;
  };
  template <class Self>
  static constexpr bool callable = requires(Self execution, std::ptrdiff_t n, Body body) {
    execution.for_each(n, body);
  };
  static constexpr Flaw flaw = [] {
    if constexpr (callable<const E&>) {
      using Result = decltype(std::declval<const E&>().for_each(std::ptrdiff_t{}, Body{}));
      if (!std::same_as<Result, TokenStatus>) return Flaw::wrong_result;
      return noexcept(std::declval<const E&>().for_each(std::ptrdiff_t{}, Body{}))
                 ? Flaw::none
                 : Flaw::may_throw;
    } else {
      return callable<E&> ? Flaw::not_const : Flaw::no_call;
    }
  }();

  static_assert(flaw != Flaw::no_call,
                "fdroute: E must satisfy Execution: it has no for_each that takes a std::ptrdiff_t "
                "and a body");
  static_assert(flaw != Flaw::not_const,
                "fdroute: E must satisfy Execution: its for_each is not const");
  static_assert(flaw != Flaw::wrong_result,
                "fdroute: E must satisfy Execution: its for_each does not return TokenStatus");
  static_assert(flaw != Flaw::may_throw,
                "fdroute: E must satisfy Execution: its for_each is not noexcept");
};

}  // namespace fdroute::inline v0::detail
