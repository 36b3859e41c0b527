#pragma once

#include <concepts>
#include <string_view>
#include <utility>
#include <vector>

#include "fdroute/arch.hpp"
#include "fdroute/bounds.hpp"
#include "fdroute/completion.hpp"
#include "fdroute/concepts.hpp"
#include "fdroute/detail/block/policy_kernels.hpp"
#include "fdroute/detail/block/route_all.hpp"
#include "fdroute/detail/checks/check_policies.hpp"
#include "fdroute/detail/checks/check_views.hpp"
#include "fdroute/detail/checks/requirements.hpp"
#include "fdroute/detail/row/parts.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/execution.hpp"
#include "fdroute/limits.hpp"
#include "fdroute/null/none.hpp"
#include "fdroute/ranking/by_logit.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/views.hpp"
#include "fdroute/weights/softmax.hpp"

namespace fdroute::inline v0 {

class AnyRouter;

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
///   rule; unless some logit is finite and a key is +inf, which is then selected first.
/// * A rule by critical values is evaluated on critical scores computed at construction
///   (detail/rule/critical_scores.hpp), with the same result as its definition on sorted p-values.
template <class R, class S = Logit, class N = NoNull, class W = SoftmaxWeights, class K = ByLogit>
class Router {
  // Not constraints of the template: where a deduction guide fails, clang and g++ say no more than
  // "constraints not satisfied"; here the first error says what a policy lacks.
  static_assert(sizeof(detail::RuleRequirements<R>) > 0);
  static_assert(sizeof(detail::ScoreRequirements<S>) > 0);
  static_assert(sizeof(detail::NullRequirements<N>) > 0);
  static_assert(sizeof(detail::WeightsRequirements<W>) > 0);
  static_assert(sizeof(detail::RankingRequirements<K>) > 0);
  static_assert(!Rule<R> || FixedCountRule<R> || !std::same_as<N, NoNull>,
                "fdroute::Router: this rule reads p-values, so it needs a NullDistribution");
  static_assert(Rule<R> || !LogitRule<R> || std::same_as<N, NoNull>,
                "fdroute::Router: this rule reads logits, so it takes no NullDistribution");

 public:
  /// A router over rows of `experts` logits, 1 <= experts <= max_experts.
  Router(int experts, R rule, S score, N null, W weights = {}, ExpertBounds bounds = {},
         K ranking = {})
      : parts_{std::move(rule),    std::move(score), std::move(null), std::move(weights),
               std::move(ranking), bounds,           experts} {
    validate();
    parts_.critical = detail::critical_table(parts_);
  }

  /// A router by a rule that reads no p-value: it takes neither score nor null distribution.
  explicit Router(int experts, R rule, W weights = {}, ExpertBounds bounds = {},
                  K ranking = {}) requires NullFreeRule<R>
      : Router(experts, std::move(rule), S{}, N{}, std::move(weights), bounds, std::move(ranking)) {
  }

  /// The number of experts that a row of logits has.
  int experts() const noexcept { return parts_.experts; }

  /// The largest number of experts that a token can get, the least width of a padded row:
  /// min(max_k, experts), or the rule's count within the bounds if that is fixed.
  int capacity() const noexcept { return parts_.capacity(); }

  const R& rule() const noexcept { return parts_.rule; }
  const S& score() const noexcept { return parts_.score; }
  const N& null() const noexcept { return parts_.null; }
  const W& weights() const noexcept { return parts_.weights; }
  const K& ranking() const noexcept { return parts_.ranking; }
  const ExpertBounds& bounds() const noexcept { return parts_.bounds; }

  /// Routes all tokens of a LogitsView or a BatchView, in the form that the view `out` stands for:
  /// a RoutingView, a CsrView, a DenseView or a BitmaskView. Returns the union of the tokens'
  /// statuses.
  ///
  /// Arch is the vector instruction set, by default the translation unit's own; the result does not
  /// depend on it. Aborts with a message if logits.experts differs from experts(), a view's
  /// capacity or stride is too small, or its type of ids cannot hold every expert's.
  template <class Arch = DefaultArch, LogitsForm Logits, class View>
  TokenStatus route(Logits logits, View out) const noexcept {
    return route<Arch>(serial, logits, out);
  }

  /// Routes all tokens by an `execution`, which may share blocks of them among threads. The result
  /// has the bits of route() without one.
  template <class Arch = DefaultArch, class E, LogitsForm Logits, class View>
  TokenStatus route(E execution, Logits logits, View out) const noexcept {
    static_assert(sizeof(detail::ExecutionRequirements<E>) > 0);
    detail::expect_valid(logits, experts());
    detail::expect_room(out, experts(), capacity());
    return detail::route_all<Arch>(execution, erased<Arch>(), logits, out);
  }

  /// Completes a routing: gives tokens more experts, of those that cost nothing now, in place.
  /// Source: C.-A. Oncescu et al., Opportunistic Expert Activation (2025), arXiv:2511.02237, for
  /// top-k; docs/residency.md.
  ///
  /// `routing` is what this router's route() or complete() wrote for these logits. Let S be a
  /// token's selected experts. Added are, best first, those of its `completion.window` best
  /// experts, in the router's ranking, that are resident and not in S, until the token has
  /// completion.max_k experts. An expert whose key is -inf or NaN, a masked one, is never added,
  /// nor is any to a skipped token or to a row without a finite key. The row then lists all its
  /// experts by rank, with the weights that the router's weights give to this set: softmax weights
  /// that are not renormalised, and have no mass_exponent, stay what they are, and the added
  /// experts bring their own share of the mass. A row to which nothing is added is left as it is,
  /// and a token's status stays.
  ///
  /// A row depends on its logits, its selected experts and its mask alone: not on the other tokens,
  /// the Arch, or the execution. Completing again with the same mask changes nothing.
  ///
  /// Aborts with a message where route() does, for a routing.capacity below min(max_k, experts), a
  /// count or an id outside its range, a window or max_k below 1, and too small a resident.stride.
  template <class Arch = DefaultArch, LogitsForm Logits, class Id>
  void complete(Logits logits, Residency resident, Completion completion,
                RoutingView<Id> routing) const noexcept {
    complete<Arch>(serial, logits, resident, completion, routing);
  }

  /// Completes all tokens by an `execution`, which may share blocks of them among threads.
  template <class Arch = DefaultArch, class E, LogitsForm Logits, class Id>
  void complete(E execution, Logits logits, Residency resident, Completion completion,
                RoutingView<Id> routing) const noexcept {
    static_assert(sizeof(detail::ExecutionRequirements<E>) > 0);
    detail::expect_valid(logits, experts());
    detail::expect_completable(resident, completion, routing, experts());
    detail::complete_all<Arch>(execution, erased<Arch>(), logits, resident, completion, routing);
  }

 private:
  using Parts = detail::RouterParts<R, S, N, W, K>;

  void validate() const {
    detail::validate_experts(parts_.experts);
    detail::validate_policy(parts_.rule, parts_.experts);
    detail::validate_policy(parts_.score, parts_.experts);
    detail::validate_policy(parts_.null, parts_.experts);
    detail::validate_policy(parts_.ranking, parts_.experts);
    detail::validate_policy(parts_.weights, parts_.experts);
    parts_.bounds.validate(parts_.experts);
    if constexpr (FittedNull<N>) {
      if (std::string_view(parts_.null.fitted_on()) != parts_.score.name) {
        detail::refuse<NullMismatch>("Router: the null distribution was fitted on score ",
                                     detail::Quoted{parts_.null.fitted_on()}, ", the router uses ",
                                     detail::Quoted{parts_.score.name});
      }
    }
    parts_.with_count_kind([&](auto kind) { check_count<kind()>(); });
  }

  template <detail::CountKind kind>
  void check_count() const {
    if constexpr (detail::is_fixed(kind)) detail::check_fixed_count(parts_.rule, parts_.experts);
    if constexpr (detail::by_critical_values(kind)) {
      detail::check_critical_values(parts_.rule, parts_.experts);
      detail::check_count_by_critical_values(parts_.rule, parts_.step_down(), parts_.experts);
    }
    detail::check_null<detail::by_expert_p(kind)>(parts_.null, parts_.experts);
  }

  friend class AnyRouter;

  // Valid as long as this router.
  template <class Arch>
  detail::ErasedRouter erased() const noexcept {
    return detail::PolicyKernels<Arch, Parts>::erase(parts_);
  }

  Parts parts_;
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
