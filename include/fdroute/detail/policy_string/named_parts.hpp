#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "fdroute/detail/checks/check_policies.hpp"
#include "fdroute/detail/policy_string/any_policy.hpp"
#include "fdroute/ranking/by_logit.hpp"
#include "fdroute/ranking/by_sigmoid.hpp"
#include "fdroute/ranking/group_limited.hpp"
#include "fdroute/ties.hpp"
#include "fdroute/weights/scaled.hpp"
#include "fdroute/weights/sigmoid.hpp"
#include "fdroute/weights/softmax.hpp"

// The rankings and weights that policy strings can name. A row of a table has a name and what makes
// the policy from the settings of a string, a PolicySettings. Of each table the first row is what a
// string that names none has.

namespace fdroute::inline v0::detail {

/// A row of a table: what strings call it, a formula in one line for people to read, and what makes
/// it. `make` is generic, and so is not compiled where only names are wanted.
template <class Make>
struct PolicyRow {
  std::string_view name;
  std::string_view formula;
  Make make;
};

template <class Make>
PolicyRow(std::string_view, std::string_view, Make) -> PolicyRow<Make>;

/// The names of a table's rows, in order.
template <class... Rows>
constexpr auto names_of(const std::tuple<Rows...>& table) {
  return std::apply(
      [](const auto&... row) { return std::array<std::string_view, sizeof...(row)>{row.name...}; },
      table);
}

/// The formulas of a table's rows, in order.
template <class... Rows>
constexpr auto formulas_of(const std::tuple<Rows...>& table) {
  return std::apply(
      [](const auto&... row) {
        return std::array<std::string_view, sizeof...(row)>{row.formula...};
      },
      table);
}

template <class Settings>
[[gnu::cold]] BySigmoid read_sigmoid(Settings& s) {
  return {.bias = s.selection_bias_if_given()};
}

template <class Settings, class Inner>
[[gnu::cold]] GroupLimited<Inner> read_groups(Settings& s, Inner ranking) {
  GroupLimited<Inner> grouped{.ranking = std::move(ranking)};
  grouped.groups = s.number("groups", grouped.groups);
  grouped.kept = s.number("kept", grouped.kept);
  grouped.score = s.choice("group_score", {"max", "sum_of_top2"}, "max") == "max"
                      ? GroupScore::max
                      : GroupScore::sum_of_top2;
  grouped.masked = s.number("masked", grouped.masked);
  return grouped;
}

template <class Settings>
[[gnu::cold]] SoftmaxWeights read_softmax(Settings& s) {
  SoftmaxWeights weights = s.options().weights;
  weights.temperature = s.number("temperature", weights.temperature);
  weights.renormalize = s.flag("renormalize", weights.renormalize);
  weights.mass_exponent = weights.mass_exponent == 0.0
                              ? s.option("mass_exponent", weights.mass_exponent)
                              : s.number("mass_exponent", weights.mass_exponent);
  weights.mass_k = weights.mass_exponent == 0.0 ? s.option("mass_k", weights.mass_k)
                                                : s.number("mass_k", weights.mass_k);
  return weights;
}

template <class Settings>
[[gnu::cold]] SigmoidWeights read_sigmoid_weights(Settings& s) {
  const bool renormalize = s.flag("renormalize", s.options().weights.renormalize);
  return {renormalize, s.number("epsilon", 0.0)};
}

template <class Settings, class W>
[[gnu::cold]] Scaled<W> read_scaled(Settings& s, W weights) {
  return {std::move(weights), s.number("factor", 1.0F)};
}

/// Every ranking that strings can name.
constexpr auto ranking_table() {
  return std::tuple{
      PolicyRow{"logit", "the logit", [](auto&) { return ByLogit{}; }},
      PolicyRow{"sigmoid", "sigmoid(logit) + bias", [](auto& s) { return read_sigmoid(s); }},
      PolicyRow{"group_limited(logit)", "the logit, in the kept groups only",
                [](auto& s) { return read_groups(s, ByLogit{}); }},
      PolicyRow{"group_limited(sigmoid)", "sigmoid(logit) + bias, in the kept groups only",
                [](auto& s) { return read_groups(s, read_sigmoid(s)); }},
  };
}

/// All routing weights that strings can name.
constexpr auto weights_table() {
  return std::tuple{
      PolicyRow{"softmax", "softmax(logit / temperature), or that divided by its sum",
                [](auto& s) { return read_softmax(s); }},
      PolicyRow{"sigmoid", "sigmoid(logit), or that divided by its sum + epsilon",
                [](auto& s) { return read_sigmoid_weights(s); }},
      PolicyRow{"scaled(softmax)", "factor times softmax",
                [](auto& s) { return read_scaled(s, read_softmax(s)); }},
      PolicyRow{"scaled(sigmoid)", "factor times sigmoid",
                [](auto& s) { return read_scaled(s, read_sigmoid_weights(s)); }},
  };
}

/// Calls take(policy) for the policy that the row of this name makes.
template <class Settings, class Table, class Take>
[[gnu::cold]] void read_row(Settings& s, const Table& table, std::string_view name,
                            const Take& take) {
  const auto try_row = [&](const auto& row) {
    if (row.name != name) return false;
    take(row.make(s));
    return true;
  };
  std::apply([&](const auto&... row) { (try_row(row) || ...); }, table);
}

/// A ranking as it is, with these ties if they are given. Throws if it is not valid.
template <class K>
[[gnu::cold]] AnyRanking any_ranking(K ranking, int experts) {
  validate_policy(ranking, experts);
  return to_any_ranking(std::move(ranking));
}

/// Weights as they are. Throws if they are not valid.
template <class W>
[[gnu::cold]] AnyWeights any_weights(W weights, int experts) {
  validate_policy(weights, experts);
  return to_any_weights(std::move(weights));
}

/// `ranking`, its own settings, and `ties`.
template <class Settings>
[[gnu::cold]] AnyRanking read_ranking(Settings& s) {
  static constexpr auto names = names_of(ranking_table());
  const std::string_view name = s.option("ranking", names);
  AnyRanking any;
  read_row(s, ranking_table(), name, [&](auto ranking) {
    ranking.ties = s.ties(ranking.ties);
    any = any_ranking(std::move(ranking), s.experts());
  });
  return any;
}

/// `weights` and their own settings.
template <class Settings>
[[gnu::cold]] AnyWeights read_weights(Settings& s) {
  static constexpr auto names = names_of(weights_table());
  const std::string_view name = s.option("weights", names);
  AnyWeights any;
  read_row(s, weights_table(), name,
           [&](auto weights) { any = any_weights(std::move(weights), s.experts()); });
  return any;
}

}  // namespace fdroute::inline v0::detail
