#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fdroute/bounds.hpp"
#include "fdroute/concepts.hpp"
#include "fdroute/config.hpp"
#include "fdroute/detail/critical_scores.hpp"
#include "fdroute/detail/order.hpp"
#include "fdroute/detail/text.hpp"
#include "fdroute/execution.hpp"
#include "fdroute/null/none.hpp"
#include "fdroute/ranking/by_logit.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/views.hpp"
#include "fdroute/weights/softmax.hpp"

namespace fdroute::inline v0 {

/// Thrown when a router is given a null distribution that was fitted on another score than its own.
struct NullMismatch : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

/// Router: logits to selected experts and their weights.
///
///     logits --ranking--> keys --score--> scores --null--> p-values --rule--> count --bounds-->
///     the `count` largest keys --weights--> routing
///
/// By default the keys are the logits, and of equal keys the lower index ranks first. With a null
/// distribution per expert (ExpertNull) experts rank by ascending p-value, equal ones by key.
///
/// Built once per MoE layer and null distribution, then immutable: any number of threads may route
/// with one. Construction validates every part and throws std::invalid_argument, or NullMismatch,
/// which is one. Routing is noexcept, allocates nothing, and a token's result depends on that
/// token's logits alone.
///
/// * NaN logits count among the p-values (as 1) and rank below all numbers; -inf, a masked expert,
///   also has p-value 1; +inf ranks above all numbers.
/// * A row without any finite key gets experts 0..min_k-1 with weight 0 and a status bit, by any
///   rule.
/// * A step-up rule is evaluated on critical scores computed at construction
///   (detail/critical_scores.hpp), with the same result as its definition on sorted p-values.
template <class R, class S = Logit, class N = NoNull, class W = SoftmaxWeights, class K = ByLogit>
class Router {
  // Not constraints of the template: where a deduction guide fails, clang and g++ say no more than
  // "constraints not satisfied"; here they name the concept and what it misses.
  static_assert(Rule<R> || LogitRule<R>, "fdroute::Router: R must satisfy Rule or LogitRule");
  static_assert(Score<S>, "fdroute::Router: S must satisfy Score");
  static_assert(NullDistribution<N> || ExpertNull<N> || std::same_as<N, NoNull>,
                "fdroute::Router: N must satisfy NullDistribution or ExpertNull");
  static_assert(NullFreeRule<R> || !std::same_as<N, NoNull>,
                "fdroute::Router: this rule reads p-values, so it needs a NullDistribution");
  static_assert(Rule<R> || std::same_as<N, NoNull>,
                "fdroute::Router: this rule reads logits, so it takes no NullDistribution");
  static_assert(RoutingWeights<W>, "fdroute::Router: W must satisfy RoutingWeights");
  static_assert(Ranking<K>, "fdroute::Router: K must satisfy Ranking");

 public:
  /// A router over rows of `experts` logits, 1 <= experts <= max_experts.
  Router(int experts, R rule, S score, N null, W weights = {}, ExpertBounds bounds = {},
         K ranking = {})
      : rule_(std::move(rule)),
        score_(std::move(score)),
        null_(std::move(null)),
        weights_(std::move(weights)),
        ranking_(std::move(ranking)),
        bounds_(bounds),
        experts_(experts) {
    validate();
    if constexpr (has_critical_scores) critical_ = detail::critical_scores(rule_, null_, experts_);
  }

  /// The same for a rule that looks at no p-value.
  explicit Router(int experts, R rule, W weights = {}, ExpertBounds bounds = {},
                  K ranking = {}) requires NullFreeRule<R>
      : Router(experts, std::move(rule), S{}, N{}, std::move(weights), bounds, std::move(ranking)) {
  }

  int experts() const noexcept { return experts_; }

  /// The largest number of experts a token can get: the width of a padded row.
  int capacity() const noexcept {
    if constexpr (FixedCountRule<R>) return std::min(bounds_(rule_.count(experts_)), experts_);
    return std::min(bounds_.max_k, experts_);
  }

  const R& rule() const noexcept { return rule_; }
  const S& score() const noexcept { return score_; }
  const N& null() const noexcept { return null_; }
  const W& weights() const noexcept { return weights_; }
  const K& ranking() const noexcept { return ranking_; }
  const ExpertBounds& bounds() const noexcept { return bounds_; }

  /// Routes all tokens, in padded form. Returns the union of the tokens' statuses.
  ///
  /// Aborts with a message if logits.experts differs from experts() or out.capacity is below
  /// capacity(); so does the dense form below.
  template <class T, class Id>
  TokenStatus route(LogitsView<T> logits, RoutingView<Id> out) const noexcept {
    return route(serial, logits, out);
  }

  template <Execution E, class T, class Id>
  TokenStatus route(E execution, LogitsView<T> logits, RoutingView<Id> out) const noexcept {
    detail::expects(logits.experts == experts_, "logits.experts == router.experts()");
    detail::expects(out.capacity >= capacity(), "out.capacity >= router.capacity()");
    return execution.for_each(logits.tokens, [&](std::ptrdiff_t token) {
      Row row;
      load(logits.row(token), row);
      select(row);
      write_padded(row, token, out);
      return row.status;
    });
  }

  /// Routes all tokens, in dense form: a weight for every expert, 0 where it is not selected.
  template <class T>
  TokenStatus route(LogitsView<T> logits, DenseView out) const noexcept {
    return route(serial, logits, out);
  }

  template <Execution E, class T>
  TokenStatus route(E execution, LogitsView<T> logits, DenseView out) const noexcept {
    detail::expects(logits.experts == experts_, "logits.experts == router.experts()");
    return execution.for_each(logits.tokens, [&](std::ptrdiff_t token) {
      Row row;
      load(logits.row(token), row);
      select(row);
      float* weights = out.weights + token * out.stride;
      std::fill_n(weights, experts_, 0.0F);
      for (int i = 0; i < row.count; ++i) weights[row.experts[at(i)]] = row.weights[at(i)];
      if (out.counts != nullptr) out.counts[token] = row.count;
      if (out.status != nullptr) out.status[token] = row.status;
      return row.status;
    });
  }

 private:
  static constexpr bool has_critical_scores = StepUpRule<R> && NullDistribution<N>;

  template <class T>
  using PerExpert = std::array<T, max_experts>;

  // One token's working memory; left uninitialised, since only the first experts_ places are used.
  struct Row {
    PerExpert<float> logits;
    PerExpert<float> keys;
    PerExpert<std::uint64_t> scratch;
    PerExpert<std::int32_t> experts;
    PerExpert<float> weights;
    int count;
    bool any_finite;
    TokenStatus status;
  };

  static constexpr std::size_t at(int i) noexcept { return static_cast<std::size_t>(i); }

  void validate() const {
    detail::validate_experts(experts_);
    // A policy has a validate() only if it has something to check.
    if constexpr (requires { rule_.validate(experts_); }) rule_.validate(experts_);
    if constexpr (requires { null_.validate(); }) null_.validate();
    if constexpr (requires { null_.validate(experts_); }) null_.validate(experts_);
    if constexpr (requires { ranking_.validate(experts_); }) ranking_.validate(experts_);
    if constexpr (requires { weights_.validate(experts_); }) weights_.validate(experts_);
    bounds_.validate(experts_);
    if constexpr (CriticalValueRule<R>) {
      // p = 1 would be rejected, and with it masked experts and NaN.
      if (const double largest = rule_.critical_value(experts_, experts_); !(largest < 1.0)) {
        throw std::invalid_argument("Router: critical values must lie below 1, got " +
                                    detail::to_text(largest));
      }
    }
    if constexpr (FittedNull<N>) {
      if (std::string_view(null_.fitted_on()) != S::name) {
        throw NullMismatch("Router: the null distribution was fitted on score '" +
                           std::string(null_.fitted_on()) + "', the router uses '" +
                           std::string(S::name) + "'");
      }
    }
  }

  template <class T>
  void load(const T* logits, Row& row) const noexcept {
    bool any_nan = false;
    for (int j = 0; j < experts_; ++j) {
      const auto x = static_cast<float>(logits[j]);
      row.logits[at(j)] = x;
      any_nan |= std::isnan(x);
    }
    ranking_(span_of(row.logits), std::span<float>(row.keys.data(), at(experts_)));
    row.any_finite = false;
    for (int j = 0; j < experts_; ++j) row.any_finite |= std::isfinite(row.keys[at(j)]);
    row.status = any_nan ? TokenStatus::has_nan : TokenStatus::ok;
  }

  template <class T>
  std::span<const T> span_of(const PerExpert<T>& values) const noexcept {
    return {values.data(), at(experts_)};
  }

  void select(Row& row) const noexcept {
    if (!row.any_finite) {
      row.status = row.status | TokenStatus::no_finite_logit;
      row.count = bounds_.min_k;
      for (int i = 0; i <= row.count && i < experts_; ++i) row.experts[at(i)] = i;
      std::fill_n(row.weights.begin(), row.count, 0.0F);
      return;
    }
    const std::span<const float> keys = span_of(row.keys);
    if constexpr (ExpertNull<N>) {
      rank(row, experts_);
      row.count = bounded(count_from_expert_nulls(row));
    } else if constexpr (FixedCountRule<R>) {
      row.count = bounded(rule_.count(experts_));
      rank(row, std::max(row.count, 1));
    } else if constexpr (has_critical_scores) {
      row.count = bounded(detail::step_up_count(keys, score_(keys), critical_));
      rank(row, std::max(row.count, 1));
    } else {
      rank(row, experts_);
      row.count = bounded(count_from_ranking(row));
    }
    weights_(span_of(row.logits), std::span<const std::int32_t>(row.experts.data(), at(row.count)),
             std::span<float>(row.weights.data(), at(row.count)));
  }

  void rank(Row& row, int n) const noexcept {
    detail::rank_largest(span_of(row.keys), ranking_.ties, {row.scratch.data(), at(experts_)},
                         {row.experts.data(), at(n)});
  }

  int bounded(int count) const noexcept { return std::min(bounds_(count), experts_); }

  // The general path: the rule sees all keys, or all p-values, in selection order.
  int count_from_ranking(const Row& row) const noexcept {
    PerExpert<float> sorted;
    for (int i = 0; i < experts_; ++i) sorted[at(i)] = row.keys[at(row.experts[at(i)])];
    if constexpr (LogitRule<R>) {
      return rule_(span_of(sorted));
    } else {
      const ScoreMap score = score_(span_of(row.keys));
      PerExpert<double> p;
      for (int i = 0; i < experts_; ++i)
        p[at(i)] = p_value(score(sorted[at(i)]), [&](double s) { return null_(s); });
      return rule_(span_of(p));
    }
  }

  // With a null distribution per expert, the p-values decide the selection order too.
  int count_from_expert_nulls(Row& row) const noexcept {
    const ScoreMap score = score_(span_of(row.keys));
    PerExpert<double> p_of_expert;
    for (int j = 0; j < experts_; ++j) {
      p_of_expert[at(j)] = p_value(score(row.keys[at(j)]), [&](double s) { return null_(s, j); });
    }
    detail::rank_by_p(span_of(p_of_expert), {row.experts.data(), at(experts_)});
    PerExpert<double> p;
    for (int i = 0; i < experts_; ++i) p[at(i)] = p_of_expert[at(row.experts[at(i)])];
    return rule_(span_of(p));
  }

  template <class Survival>
  static double p_value(float score, const Survival& survival) noexcept {
    // NaN and -inf, a masked expert, are the least surprising of all.
    if (!(score > -std::numeric_limits<float>::infinity())) return 1.0;
    return survival(static_cast<double>(score));
  }

  template <class Id>
  static void write_padded(const Row& row, std::ptrdiff_t token, RoutingView<Id> out) noexcept {
    Id* experts = out.experts + token * out.capacity;
    float* weights = out.weights + token * out.capacity;
    // select() ranks at least one expert, so there is a valid id even for an empty selection.
    const Id padding = out.padding == Padding::minus_one ? Id(-1) : static_cast<Id>(row.experts[0]);
    for (int i = 0; i < row.count; ++i) {
      experts[i] = static_cast<Id>(row.experts[at(i)]);
      weights[i] = row.weights[at(i)];
    }
    std::fill(experts + row.count, experts + out.capacity, padding);
    std::fill(weights + row.count, weights + out.capacity, 0.0F);
    out.counts[token] = row.count;
    if (out.status != nullptr) out.status[token] = row.status;
  }

  R rule_;
  S score_;
  N null_;
  W weights_;
  K ranking_;
  ExpertBounds bounds_;
  int experts_;
  std::vector<float> critical_;  // step-up rules only: t_1 .. t_m
};

template <class R>
Router(int, R) -> Router<R>;
template <class R, class W>
Router(int, R, W) -> Router<R, Logit, NoNull, W>;
template <class R, class W>
Router(int, R, W, ExpertBounds) -> Router<R, Logit, NoNull, W>;
template <class R, class W, class K>
Router(int, R, W, ExpertBounds, K) -> Router<R, Logit, NoNull, W, K>;
template <class R, class S, class N>
Router(int, R, S, N) -> Router<R, S, N>;
template <class R, class S, class N, class W>
Router(int, R, S, N, W) -> Router<R, S, N, W>;
template <class R, class S, class N, class W>
Router(int, R, S, N, W, ExpertBounds) -> Router<R, S, N, W>;
template <class R, class S, class N, class W, class K>
Router(int, R, S, N, W, ExpertBounds, K) -> Router<R, S, N, W, K>;

}  // namespace fdroute::inline v0
