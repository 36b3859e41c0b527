#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>

#include "fdroute/detail/number/require_ieee.hpp"
#include "fdroute/ties.hpp"

namespace fdroute::inline v0 {

/// A type that logits may be stored in: any that converts to float, implicitly or explicitly.
template <class T>
concept LogitValue = requires(const T& logit) {
  static_cast<float>(logit);
};

/// How a type of logits is stored.
enum class LogitFormat : std::uint8_t {
  by_conversion,  ///< known to itself alone: elements are converted one by one
  bfloat16,       ///< the upper half of a float's bits
  float16,        ///< IEEE 754 binary16
};

/// The format of logits of type T. Specialise it for an engine's own 16-bit type, trivially
/// copyable and of two bytes, to have it converted many at a time; the values are those of its
/// conversion to float.
///
///     template <> inline constexpr auto fdroute::logit_format<engine::bf16> =
///         fdroute::LogitFormat::bfloat16;
template <class T>
inline constexpr LogitFormat logit_format = LogitFormat::by_conversion;
#if defined(__STDCPP_BFLOAT16_T__)
template <>
inline constexpr LogitFormat logit_format<decltype(0.0bf16)> = LogitFormat::bfloat16;
#endif
#if defined(__STDCPP_FLOAT16_T__)
template <>
inline constexpr LogitFormat logit_format<decltype(0.0f16)> = LogitFormat::float16;
#endif

/// The affine map from a token's logits to its scores: score = (logit - shift) * scale, in float.
///
/// `scale` is positive and both are finite, so a map keeps the order of the logits. The form has no
/// product followed by a sum: no compiler can fuse it, and every machine computes the same scores.
/// route() ends the process with a message if a score returns another map.
struct ScoreMap {
  float shift = 0.0F;
  float scale = 1.0F;

  constexpr float operator()(float logit) const noexcept { return (logit - shift) * scale; }
};

/// A score: reads a token's logits, shape (experts), and returns the token's ScoreMap.
///
/// Non-finite logits must be left out of whatever the score computes; at least one is finite.
/// `name` is what a null distribution records as the score that it was fitted on.
template <class S>
concept Score = std::copyable<S> && requires(const S& score, std::span<const float> logits) {
  { S::name } -> std::convertible_to<std::string_view>;
  { score(logits) }
  noexcept->std::same_as<ScoreMap>;
};

/// A null distribution: its survival function p = P(S >= score), in double, in [0, 1], not
/// increasing in the score. It is called with any score but NaN, infinite ones too. A Router probes
/// it at some hundreds of scores when it is made.
template <class N>
concept NullDistribution = std::copyable<N> && requires(const N& null, double score) {
  { null(score) }
  noexcept->std::same_as<double>;
};

/// A null distribution for every expert: p = P(S >= score) under the own null of `expert`, in
/// double, in [0, 1], not increasing in the score. Experts then rank by p-value.
template <class N>
concept ExpertNull = std::copyable<N> && requires(const N& null, double score, int expert) {
  { null(score, expert) }
  noexcept->std::same_as<double>;
};

/// A null distribution that knows which score it was fitted on. A Router refuses any other.
template <class N>
concept FittedNull = (NullDistribution<N> || ExpertNull<N>)&&requires(const N& null) {
  { null.fitted_on() } -> std::convertible_to<std::string_view>;
};

/// A rule: takes a token's p-values in ascending order, shape (experts), and returns how many of
/// them it rejects, which is how many experts it selects, in [0, experts].
template <class R>
concept Rule = std::copyable<R> && requires(const R& rule, std::span<const double> sorted_p) {
  { rule(sorted_p) }
  noexcept->std::same_as<int>;
};

/// A rule that reads logits, not p-values (TopP, RelativeThreshold): takes the token's logits in
/// descending order, shape (experts), and returns the number of experts selected, in [0, experts].
/// NaN stands last; at least one logit is a number.
template <class R>
concept LogitRule = std::copyable<R> && requires(const R& rule, std::span<const float> logits) {
  { rule(logits) }
  noexcept->std::same_as<int>;
};

/// A rule whose count depends on nothing but the number of experts: it needs no p-values.
template <class R>
concept FixedCountRule = Rule<R> && requires(const R& rule, int experts) {
  { rule.count(experts) }
  noexcept->std::same_as<int>;
};

/// A rule that needs neither a score nor a null distribution.
template <class R>
concept NullFreeRule = FixedCountRule<R> || LogitRule<R>;

/// A rule by critical values: it compares p(k) with `critical_value(k, experts)`, for k in
/// 1 .. experts; equality rejects. Critical values do not decrease in k, and the last is below 1. A
/// Router checks both, and that the call operator gives the count that they give on some rows of
/// p-values.
template <class R>
concept CriticalValueRule = Rule<R> && requires(const R& rule, int k, int experts) {
  { rule.critical_value(k, experts) }
  noexcept->std::same_as<double>;
};

/// A step-down rule: the first k with p(k) > critical_value(k, experts) stops; the count is k - 1,
/// or experts if there is none. It says so with `static constexpr bool step_down = true`.
template <class R>
concept StepDownRule = CriticalValueRule<R> && R::step_down;

/// A step-up rule, what a rule with critical values is unless it says otherwise: the largest k with
/// p(k) <= critical_value(k, experts), or 0. Such a rule is evaluated without p-values (see
/// detail/rule/critical_scores.hpp).
template <class R>
concept StepUpRule = CriticalValueRule<R> && !StepDownRule<R>;

/// What a policy may offer to block kernels beside its call operator, with the same results.
enum class Kernel : std::uint8_t {
  none,
  /// A LogitRule that counts the logits >= the smallest float not below largest logit + margin():
  /// `double margin() const noexcept`, at most 0.
  margin,
  /// A LogitRule that counts as TopP{nucleus()} does: `double nucleus() const noexcept`.
  nucleus,
  /// A Rule that reads the smallest p-values alone: `int reads(int experts) const noexcept`, how
  /// many of them.
  smallest_p,
  /// A Rule with what smallest_p asks for, that also counts by vectors: `template <class Arch> int
  /// count(const double* sorted_p, int experts) const noexcept`. `sorted_p` is aligned to 64 bytes
  /// and holds reads(experts) p-values, filled up to a multiple of 16.
  vectors_of_p,
  /// A NullDistribution that is a table: `const detail::SurvivalTable* table() const noexcept`, a
  /// null pointer if it is none after all.
  table,
  /// A Ranking whose keys are those of known steps: `detail::KeyRecipe recipe() const noexcept`.
  key_recipe,
  /// RoutingWeights of known steps: `detail::WeightRecipe recipe() const noexcept`.
  weight_recipe,
};

/// The kernel that a policy of type P opens. Nothing else opens one: members of these names in a
/// type without the declaration mean nothing, and a derived class does not inherit it.
///
///     template <> inline constexpr auto fdroute::kernel_of<Mine> = fdroute::Kernel::margin;
template <class P>
inline constexpr Kernel kernel_of = Kernel::none;

/// A ranking: fills `keys`, shape (experts), with what the token's experts are ranked by, from its
/// logits, shape (experts). Larger keys rank first, equal keys by `ties`, NaN last; an expert of
/// key -inf is masked: a logit of -inf must give it, or complete() may add experts that a BatchView
/// masks. The score and the rule see the keys in place of the logits.
template <class K>
concept Ranking = std::copyable<K> &&
    requires(const K& ranking, std::span<const float> logits, std::span<float> keys) {
  { ranking.ties } -> std::convertible_to<TieOrder>;
  { ranking(logits, keys) }
  noexcept->std::same_as<void>;
};

/// Routing weights: fills `weights[i]` for the selected `experts[i]`, both of shape (count), from
/// the token's logits, shape (experts). At least one logit is finite; the others may be NaN or
/// infinite. Selected ids stand in the order of the ranking, and there may be none.
template <class W>
concept RoutingWeights = std::copyable<W> &&
    requires(const W& policy, std::span<const float> logits, std::span<const std::int32_t> experts,
             std::span<float> weights) {
  { policy(logits, experts, weights) }
  noexcept->std::same_as<void>;
};

}  // namespace fdroute::inline v0
