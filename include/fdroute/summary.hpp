#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/row/softmax_numerator.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/views.hpp"

namespace fdroute::inline v0 {

/// What a batch's routing amounts to. Means are over tokens; of no tokens, all numbers are 0.
struct RoutingSummary {
  std::ptrdiff_t tokens = 0;
  std::int64_t assignments = 0;  ///< sum of the counts
  std::int32_t min_count = 0;
  std::int32_t max_count = 0;
  double mean_count = 0.0;                    ///< assignments / tokens
  double mean_mass = 0.0;                     ///< mean over tokens of the sum of their weights
  double min_mass = 0.0;                      ///< smallest such sum
  std::vector<std::int64_t> tokens_by_count;  ///< (max_count + 1): tokens with so many experts
  std::vector<std::int64_t> load;             ///< (experts): tokens that selected the expert
};

/// Counts, weight mass and load of a padded routing over `experts` experts.
///
/// The mass of a token is the sum of its routing weights, in double: with SoftmaxWeights as they
/// are by default, the share of the softmax that the selection keeps. Throws
/// std::invalid_argument if an id is outside [0, experts), a count outside [0, routing.capacity],
/// `tokens` or `experts` negative; std::bad_alloc.
template <class Id>
RoutingSummary summarize(RoutingView<Id> routing, std::ptrdiff_t tokens, int experts) {
  if (tokens < 0 || experts < 0) {
    detail::refuse("summarize: ", tokens, " tokens, ", experts, " experts");
  }
  RoutingSummary summary;
  summary.tokens = tokens;
  summary.load.assign(static_cast<std::size_t>(experts), 0);
  if (tokens == 0) {
    summary.tokens_by_count.assign(1, 0);
    return summary;
  }
  const auto [least, most] = std::minmax_element(routing.counts, routing.counts + tokens);
  if (*least < 0 || *most > routing.capacity) {
    detail::refuse("summarize: counts of ", *least, " to ", *most, " in rows of ",
                   routing.capacity);
  }
  summary.min_count = *least;
  summary.max_count = *most;
  summary.tokens_by_count.assign(static_cast<std::size_t>(*most) + 1, 0);
  summary.min_mass = std::numeric_limits<double>::infinity();
  double total_mass = 0.0;
  for (std::ptrdiff_t token = 0; token < tokens; ++token) {
    const RoutingView<Id> row = routing.from(token);
    double mass = 0.0;
    for (std::int32_t i = 0; i < row.counts[0]; ++i) {
      const auto id = static_cast<std::int64_t>(row.experts[i]);
      if (id < 0 || id >= experts) {
        detail::refuse("summarize: expert id ", id, " is outside [0, ", experts, ")");
      }
      ++summary.load[static_cast<std::size_t>(id)];
      mass += static_cast<double>(row.weights[i]);
    }
    ++summary.tokens_by_count[static_cast<std::size_t>(row.counts[0])];
    summary.assignments += row.counts[0];
    summary.min_mass = std::min(summary.min_mass, mass);
    total_mass += mass;
  }
  summary.mean_count = static_cast<double>(summary.assignments) / static_cast<double>(tokens);
  summary.mean_mass = total_mass / static_cast<double>(tokens);
  return summary;
}

/// What a load-balancing loss is at perfect balance. Both are experts * sum_e f_e P_e, P_e being
/// the mean over tokens of the softmax over all experts. They differ in f_e, and agree for top-1.
enum class LoadBalance : std::uint8_t {
  /// f_e = assignments of e / all assignments: 1 at balance, whatever the counts. For one expert a
  /// token, the loss of W. Fedus, B. Zoph and N. Shazeer, Switch Transformers (2021), section 2.2,
  /// equations (4) to (6), arXiv:2101.03961, without its factor alpha.
  switch_transformer,
  /// f_e = assignments of e / tokens: the mean count at balance. What transformers computes by
  /// `load_balancing_loss_func`: the mean over tokens of the one-hot selections, summed over the
  /// top_k places.
  transformers,
};

/// The load-balancing loss of a batch, from its logits (tokens, experts) and its routing,
///
///     experts * sum_e f_e P_e
///
/// with f_e by the `convention` and P_e the mean over tokens of the softmax, in double. Logits are
/// finite. 0 if there is no assignment. Throws as summarize() does.
template <class T, class Id>
double load_balancing_loss(LogitsView<T> logits, RoutingView<Id> routing, LoadBalance convention) {
  const RoutingSummary summary = summarize(routing, logits.tokens, logits.experts);
  if (summary.assignments == 0) return 0.0;
  double sum = 0.0;
  for (std::ptrdiff_t token = 0; token < logits.tokens; ++token) {
    const T* row = logits.row(token);
    float largest = -std::numeric_limits<float>::infinity();
    for (int e = 0; e < logits.experts; ++e)
      largest = std::max(largest, static_cast<float>(row[e]));
    const detail::SoftmaxNumerator numerator{largest};
    double denominator = 0.0;
    double loaded = 0.0;
    for (int e = 0; e < logits.experts; ++e) {
      const double p = numerator(static_cast<float>(row[e]));
      denominator += p;
      loaded += p * static_cast<double>(summary.load[static_cast<std::size_t>(e)]);
    }
    sum += loaded / denominator;
  }
  const auto tokens = static_cast<double>(logits.tokens);
  const double divisor = convention == LoadBalance::switch_transformer
                             ? static_cast<double>(summary.assignments)
                             : tokens;
  return logits.experts * (sum / tokens) / divisor;
}

/// How near a token's cut was to another one; distances are in scores, infinite where one side is
/// missing.
struct CutMargin {
  /// Score of the last selected expert less that of the first unselected one. 0: a tie at the cut;
  /// negative where something but the logits ranked the experts.
  float gap;
  /// Step-up rules, k the count: score of the last selected expert less the critical score t_k; it
  /// is selected on its own merit if this is >= 0, and by min_k if it is negative.
  float kept_by;
  /// Step-up rules: t_(k+1) less the score of the first unselected expert; it misses by so much if
  /// this is > 0, and max_k cut it off if not.
  float missed_by;
};

/// The margin of every token of a routing: margins has shape (tokens).
///
/// `score` is the router's; `critical`, shape (experts), the critical scores t_1 .. t_m of its
/// step-up rule, or empty for any other rule, which leaves kept_by and missed_by at infinity. NaN
/// logits count as no expert. Throws std::invalid_argument if `margins` or a `critical` that is not
/// empty has another size, or as summarize() does.
template <class T, class Id, Score S>
void cut_margins(LogitsView<T> logits, RoutingView<Id> routing, const S& score,
                 std::span<const float> critical, std::span<CutMargin> margins) {
  if (margins.size() != static_cast<std::size_t>(logits.tokens) ||
      (!critical.empty() && critical.size() != static_cast<std::size_t>(logits.experts))) {
    detail::refuse("cut_margins: ", margins.size(), " margins and ", critical.size(),
                   " critical scores for ", logits.tokens, " tokens of ", logits.experts,
                   " experts");
  }
  summarize(routing, logits.tokens, logits.experts);  // for what it throws
  constexpr float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> row(static_cast<std::size_t>(logits.experts));
  std::vector<bool> selected(row.size());
  for (std::ptrdiff_t token = 0; token < logits.tokens; ++token) {
    const RoutingView<Id> chosen = routing.from(token);
    const auto k = static_cast<std::size_t>(chosen.counts[0]);
    std::transform(logits.row(token), logits.row(token) + logits.experts, row.begin(),
                   [](const T& x) { return static_cast<float>(x); });
    selected.assign(row.size(), false);
    for (std::size_t i = 0; i < k; ++i)
      selected[static_cast<std::size_t>(chosen.experts[i])] = true;

    CutMargin& margin = margins[static_cast<std::size_t>(token)];
    margin = {infinity, infinity, infinity};
    if (std::none_of(row.begin(), row.end(), [](float x) { return std::isfinite(x); })) continue;
    const ScoreMap to_score = score(std::span<const float>(row));
    float last = infinity;
    float first = -infinity;
    for (std::size_t e = 0; e < row.size(); ++e) {
      const float s = to_score(row[e]);
      if (selected[e]) last = std::min(last, s);
      if (!selected[e]) first = std::max(first, s);
    }
    margin.gap = last == first ? 0.0F : last - first;
    // A critical score of NaN is one that no score reaches.
    const auto reach = [&](std::size_t i) {
      return std::isnan(critical[i]) ? infinity : critical[i];
    };
    if (!critical.empty() && k > 0) margin.kept_by = last - reach(k - 1);
    if (!critical.empty() && k < critical.size()) margin.missed_by = reach(k) - first;
  }
}

}  // namespace fdroute::inline v0
