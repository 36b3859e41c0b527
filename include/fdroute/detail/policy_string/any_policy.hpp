#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/block/count_by_p.hpp"
#include "fdroute/detail/block/policy_kernels.hpp"
#include "fdroute/detail/row/parts.hpp"
#include "fdroute/detail/row/recipes.hpp"
#include "fdroute/detail/rule/survival_table.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/ties.hpp"

// Policies chosen at run time, a type for each kind: all that strings name is one type of Router,
// since every combination of types costs compile time and code. Results are those of the policies
// they stand for, and so are the kernels that they open.

namespace fdroute::inline v0::detail {

/// A policy of any type, which copies share.
using Shared = std::shared_ptr<const void>;

[[gnu::cold, gnu::noinline]] inline Shared shared(const void* policy,
                                                  void (*destroy)(const void*)) {
  return {policy, destroy};
}

template <class P>
[[gnu::cold]] Shared share(P policy) {
  return shared(new P(std::move(policy)), [](const void* p) { delete static_cast<const P*>(p); });
}

/// A shared policy of type P.
template <class P>
const P& as(const void* policy) noexcept {
  return *static_cast<const P*>(policy);
}

/// Any rule, for one number of experts. It has every function that a rule may have; `kind` says
/// which of them are its own.
struct AnyRule {
  CountKind kind = CountKind::p;  // without regard to the null distribution
  bool step_down = false;
  int number_of_p = 0;     // how many p-values it reads; of a fixed count, that
  double parameter = 0.0;  // of Kernel::margin and Kernel::nucleus
  std::vector<double> critical_values{};
  Shared rule{};
  int (*of_p)(const void*, std::span<const double>) noexcept = nullptr;
  int (*of_logits)(const void*, std::span<const float>) noexcept = nullptr;

  int operator()(std::span<const double> sorted_p) const noexcept {
    return of_p(rule.get(), sorted_p);
  }
  int operator()(std::span<const float> logits) const noexcept {
    return of_logits(rule.get(), logits);
  }
  int count(int) const noexcept { return number_of_p; }
  int reads(int) const noexcept { return number_of_p; }
  double margin() const noexcept { return parameter; }
  double nucleus() const noexcept { return parameter; }
  double critical_value(int k, int) const noexcept {
    return critical_values[static_cast<std::size_t>(k - 1)];
  }
};

/// A rule as it is.
template <class R>
[[gnu::cold]] AnyRule any_rule(const R& rule, int experts) {
  constexpr CountKind kind = CountOf<R, TabulatedNull>::kind;
  AnyRule any{.kind = kind, .rule = share(rule)};
  if constexpr (reads_logits(kind)) {
    any.of_logits = [](const void* r, std::span<const float> logits) noexcept {
      return as<R>(r)(logits);
    };
    if constexpr (kind == CountKind::margin) any.parameter = rule.margin();
    if constexpr (kind == CountKind::nucleus) any.parameter = rule.nucleus();
  } else {
    any.of_p = [](const void* r, std::span<const double> p) noexcept { return as<R>(r)(p); };
    if constexpr (kind == CountKind::fixed) {
      any.number_of_p = rule.count(experts);
    } else {
      any.number_of_p = p_values_needed(rule, experts);
    }
    if constexpr (kind == CountKind::critical_scores) {
      any.step_down = StepDownRule<R>;
      for (int k = 1; k <= experts; ++k)
        any.critical_values.push_back(rule.critical_value(k, experts));
    }
  }
  return any;
}

/// Any ranking.
struct AnyRanking {
  TieOrder ties = TieOrder::lowest_index;
  Shared ranking{};
  void (*rank)(const void*, std::span<const float>, std::span<float>) noexcept = nullptr;
  KeyRecipe (*recipe_of)(const void*) noexcept = nullptr;  // if it has one

  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    rank(ranking.get(), logits, keys);
  }

  KeyRecipe recipe() const noexcept {
    return recipe_of == nullptr ? KeyRecipe{.groups = 0} : recipe_of(ranking.get());
  }
};

/// A ranking as it is.
template <class K>
[[gnu::cold]] AnyRanking to_any_ranking(K ranking) {
  AnyRanking any{.ties = ranking.ties};
  any.ranking = share(std::move(ranking));
  any.rank = [](const void* k, std::span<const float> logits, std::span<float> keys) noexcept {
    as<K>(k)(logits, keys);
  };
  if constexpr (kernel_of<K> == Kernel::key_recipe)
    any.recipe_of = [](const void* k) noexcept { return as<K>(k).recipe(); };
  return any;
}

/// Any weights.
struct AnyWeights {
  Shared weights{};
  void (*weigh)(const void*, std::span<const float>, std::span<const std::int32_t>,
                std::span<float>) noexcept = nullptr;
  WeightRecipe (*recipe_of)(const void*) noexcept = nullptr;  // if they have one

  void operator()(std::span<const float> logits, std::span<const std::int32_t> experts,
                  std::span<float> out) const noexcept {
    weigh(weights.get(), logits, experts, out);
  }

  WeightRecipe recipe() const noexcept {
    return recipe_of == nullptr ? WeightRecipe{} : recipe_of(weights.get());
  }
};

/// Weights as they are.
template <class W>
[[gnu::cold]] AnyWeights to_any_weights(W weights) {
  AnyWeights any{.weights = share(std::move(weights))};
  any.weigh = [](const void* w, std::span<const float> logits,
                 std::span<const std::int32_t> experts,
                 std::span<float> out) noexcept { as<W>(w)(logits, experts, out); };
  if constexpr (kernel_of<W> == Kernel::weight_recipe)
    any.recipe_of = [](const void* w) noexcept { return as<W>(w).recipe(); };
  return any;
}

/// Any score that has no fields.
struct AnyScore {
  std::string_view name = Logit::name;
  ScoreKind kind = ScoreKind::logit;
  ScoreMap (*map)(std::span<const float>) noexcept = nullptr;  // none for a Logit

  ScoreMap operator()(std::span<const float> logits) const noexcept {
    return kind == ScoreKind::logit ? ScoreMap{} : map(logits);
  }
};

template <class S>
constexpr AnyScore any_score() noexcept {
  return {S::name, ScoreOf<S>::kind,
          [](std::span<const float> logits) noexcept { return S{}(logits); }};
}

/// Any null distribution, of one for all experts or one for each, for the score of this name. It
/// says p = 1 where there is none, for rules that read no p-values.
struct AnyNull {
  std::string score{Logit::name};
  bool per_expert = false;
  const SurvivalTable* survival_table = nullptr;  // of what `null` holds: see Kernel::table
  Shared null{};
  double (*survival)(const void*, double, int) noexcept = [](const void*, double, int) noexcept {
    return 1.0;
  };

  double operator()(double at) const noexcept { return survival(null.get(), at, 0); }
  double operator()(double at, int expert) const noexcept {
    return survival(null.get(), at, expert);
  }
  const SurvivalTable* table() const noexcept { return survival_table; }
  std::string_view fitted_on() const noexcept { return score; }
};

/// A null distribution as it is.
template <class N>
[[gnu::cold]] AnyNull any_null(N null, std::string_view score) {
  AnyNull any{.score = std::string(score), .per_expert = ExpertNull<N>};
  any.null = share(std::move(null));
  if constexpr (ExpertNull<N>) {
    any.survival = [](const void* n, double at, int j) noexcept { return as<N>(n)(at, j); };
  } else {
    any.survival = [](const void* n, double at, int) noexcept { return as<N>(n)(at); };
    if constexpr (kernel_of<N> == Kernel::table) any.survival_table = as<N>(any.null.get()).table();
  }
  return any;
}

template <>
struct CountOf<AnyRule, AnyNull> {
  static constexpr CountKind kind_of(const AnyRule& rule, const AnyNull& null) noexcept {
    if (!null.per_expert) return rule.kind;
    return rule.kind == CountKind::critical_scores ? CountKind::expert_critical_scores
                                                   : CountKind::expert_p;
  }

  static constexpr bool step_down(const AnyRule& rule) noexcept { return rule.step_down; }

  template <class F>
  static decltype(auto) visit(const AnyRule& rule, const AnyNull& null, const F& f) {
    const auto for_kind = [&]<CountKind kind>() -> decltype(auto) {
      return f(std::integral_constant<CountKind, kind>{});
    };
    switch (kind_of(rule, null)) {
      case CountKind::fixed:
        return for_kind.template operator()<CountKind::fixed>();
      case CountKind::logits:
        return for_kind.template operator()<CountKind::logits>();
      case CountKind::margin:
        return for_kind.template operator()<CountKind::margin>();
      case CountKind::nucleus:
        return for_kind.template operator()<CountKind::nucleus>();
      case CountKind::critical_scores:
        return for_kind.template operator()<CountKind::critical_scores>();
      case CountKind::p:
        return for_kind.template operator()<CountKind::p>();
      case CountKind::expert_critical_scores:
        return for_kind.template operator()<CountKind::expert_critical_scores>();
      case CountKind::expert_fixed:  // not from strings: such a rule reads no null distribution
      case CountKind::expert_p:
        break;
    }
    return for_kind.template operator()<CountKind::expert_p>();
  }
};

template <>
struct ScoreOf<AnyScore> {
  static constexpr ScoreKind kind_of(const AnyScore& score) noexcept { return score.kind; }

  template <class F>
  static void visit(const AnyScore& score, const F& f) {
    switch (score.kind) {
      case ScoreKind::logit:
        return f(std::integral_constant<ScoreKind, ScoreKind::logit>{});
      case ScoreKind::log_softmax:
        return f(std::integral_constant<ScoreKind, ScoreKind::log_softmax>{});
      case ScoreKind::zscore:
        return f(std::integral_constant<ScoreKind, ScoreKind::zscore>{});
      case ScoreKind::other:
        break;
    }
    f(std::integral_constant<ScoreKind, ScoreKind::other>{});
  }
};

}  // namespace fdroute::inline v0::detail

namespace fdroute::inline v0 {

template <>
inline constexpr Kernel kernel_of<detail::AnyRule> = Kernel::smallest_p;

template <>
inline constexpr Kernel kernel_of<detail::AnyNull> = Kernel::table;

template <>
inline constexpr Kernel kernel_of<detail::AnyRanking> = Kernel::key_recipe;

template <>
inline constexpr Kernel kernel_of<detail::AnyWeights> = Kernel::weight_recipe;

}  // namespace fdroute::inline v0
