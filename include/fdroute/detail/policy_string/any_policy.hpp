#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/row/recipes.hpp"
#include "fdroute/detail/rule/survival_table.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/ties.hpp"

/// Policies chosen at run time, as few types: every combination of types that a Router is made of
/// costs compile time and code. Results are those of the policies they stand for, and so are the
/// kernels that they open.

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

/// Any ranking.
struct AnyRanking {
  using Rank = std::function<void(std::span<const float>, std::span<float>)>;

  Rank rank;
  TieOrder ties = TieOrder::lowest_index;
  KeyRecipe (*recipe_of)(const Rank&) noexcept = nullptr;  // of what `rank` holds, if it has one

  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    rank(logits, keys);
  }

  KeyRecipe recipe() const noexcept {
    return recipe_of == nullptr ? KeyRecipe{.groups = 0} : recipe_of(rank);
  }
};

/// A ranking as it is.
template <class K>
AnyRanking to_any_ranking(K ranking) {
  AnyRanking any{{}, ranking.ties};
  any.rank = std::move(ranking);
  if constexpr (kernel_of<K> == Kernel::key_recipe) {
    any.recipe_of = [](const AnyRanking::Rank& rank) noexcept {
      return rank.target<K>()->recipe();
    };
  }
  return any;
}

/// Any weights.
struct AnyWeights {
  using Weigh =
      std::function<void(std::span<const float>, std::span<const std::int32_t>, std::span<float>)>;

  Weigh weigh;
  WeightRecipe (*recipe_of)(const Weigh&) noexcept = nullptr;  // of what `weigh` holds

  void operator()(std::span<const float> logits, std::span<const std::int32_t> experts,
                  std::span<float> weights) const noexcept {
    weigh(logits, experts, weights);
  }

  WeightRecipe recipe() const noexcept {
    return recipe_of == nullptr ? WeightRecipe{} : recipe_of(weigh);
  }
};

/// Weights as they are.
template <class W>
AnyWeights to_any_weights(W weights) {
  AnyWeights any;
  any.weigh = std::move(weights);
  if constexpr (kernel_of<W> == Kernel::weight_recipe) {
    any.recipe_of = [](const AnyWeights::Weigh& weigh) noexcept {
      return weigh.target<W>()->recipe();
    };
  }
  return any;
}

/// Any score.
struct AnyScore {
  std::string_view name;
  std::function<ScoreMap(std::span<const float>)> map;

  ScoreMap operator()(std::span<const float> logits) const noexcept { return map(logits); }
};

/// One of these scores.
template <class... Scores>
AnyScore any_score(const std::variant<Scores...>& score) {
  return std::visit([](const auto& s) { return AnyScore{s.name, s}; }, score);
}

/// Any null distribution for every expert, for the score of this name.
struct AnyExpertNull {
  std::function<double(double, int)> survival;
  std::string score;

  double operator()(double at, int expert) const noexcept { return survival(at, expert); }

  std::string_view fitted_on() const noexcept { return score; }
};

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

template <>
inline constexpr Kernel kernel_of<detail::AnyRanking> = Kernel::key_recipe;

template <>
inline constexpr Kernel kernel_of<detail::AnyWeights> = Kernel::weight_recipe;

}  // namespace fdroute::inline v0
