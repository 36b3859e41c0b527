#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/number/total_order.hpp"
#include "fdroute/detail/row/parts.hpp"
#include "fdroute/detail/row/score_maps.hpp"
#include "fdroute/detail/rule/critical_scores.hpp"
#include "fdroute/limits.hpp"
#include "fdroute/views.hpp"

namespace fdroute::inline v0::detail {

/// Room for one token's routing. Uninitialised: only what RowRouter fills is used.
struct RoutedRow {
  std::array<std::int32_t, max_experts> experts;  // by rank: at least `count`, and at least one
  std::array<float, max_experts> weights;         // of the `count` first
  int count;
  TokenStatus status;
};

/// One token's routing by the definition, for any policies and any row: P is a RouterParts.
template <class P>
class RowRouter {
 public:
  /// `logits` has shape (experts).
  RowRouter(const P& parts, std::span<const float> logits, RoutedRow& row) noexcept
      : parts_(parts), logits_(logits), row_(row) {}

  void select() noexcept {
    rank_keys();
    if (!routable_) {
      row_.status = row_.status | TokenStatus::no_finite_logit;
      row_.count = parts_.bounds.min_k;
      for (int i = 0; i <= row_.count && i < parts_.experts; ++i) row_.experts[at(i)] = i;
      std::fill_n(row_.weights.begin(), row_.count, 0.0F);
      return;
    }
    rank_and_count();
    parts_.weights(logits_, std::span<const std::int32_t>(row_.experts.data(), at(row_.count)),
                   std::span<float>(row_.weights.data(), at(row_.count)));
  }

  /// Fills in the status and all experts by rank. Returns how many of them, the first ones, may be
  /// selected on their own merit: those of a key above -inf, or none if the row has none to rank
  /// by.
  int order() noexcept {
    rank_keys();
    if (!routable_) return 0;
    parts_.with_count_kind([&](auto kind) { rank_all<kind()>(); });
    return static_cast<int>(std::ranges::count_if(
        span_of(keys_), [](float key) { return key > -std::numeric_limits<float>::infinity(); }));
  }

 private:
  template <class T>
  using PerExpert = std::array<T, max_experts>;

  static constexpr std::size_t at(int i) noexcept { return static_cast<std::size_t>(i); }

  template <class T>
  std::span<const T> span_of(const PerExpert<T>& values) const noexcept {
    return {values.data(), at(parts_.experts)};
  }

  void rank_keys() noexcept {
    bool any_nan = false;
    bool any_finite = false;
    for (const float x : logits_) {
      any_nan |= std::isnan(x);
      any_finite |= std::isfinite(x);
    }
    parts_.ranking(logits_, std::span<float>(keys_.data(), at(parts_.experts)));
    any_finite_key_ = false;
    bool any_infinite_key = false;
    for (const float key : span_of(keys_)) {
      any_finite_key_ |= std::isfinite(key);
      any_infinite_key |= key == std::numeric_limits<float>::infinity();
    }
    routable_ = any_finite_key_ || (any_infinite_key && any_finite);
    row_.status = any_nan ? TokenStatus::has_nan : TokenStatus::ok;
  }

  // A score reads finite keys; where a ranking leaves none, +inf and -inf are scores of themselves.
  ScoreMap score_map() const noexcept {
    return any_finite_key_ ? checked(parts_.score(span_of(keys_))) : ScoreMap{};
  }

  void rank_and_count() noexcept {
    parts_.with_count_kind([&](auto kind) { rank_and_count_by<kind()>(); });
  }

  template <CountKind kind>
  void rank_and_count_by() noexcept {
    if constexpr (by_expert_p(kind)) {
      row_.count = parts_.bounded(count_from_expert_nulls());
    } else if constexpr (kind == CountKind::fixed) {
      row_.count = parts_.bounded(parts_.rule.count(parts_.experts));
      rank(std::max(row_.count, 1));
    } else if constexpr (kind == CountKind::critical_scores) {
      row_.count = parts_.bounded(count_by_critical_scores());
      rank(std::max(row_.count, 1));
    } else {
      rank(parts_.experts);
      row_.count = parts_.bounded(count_from_ranking<reads_logits(kind)>());
    }
  }

  template <CountKind kind>
  void rank_all() noexcept {
    if constexpr (by_expert_p(kind)) {
      PerExpert<double> p;
      rank_by_expert_nulls(p);
    } else {
      rank(parts_.experts);
    }
  }

  int count_by_critical_scores() const noexcept {
    const std::span<const float> keys = span_of(keys_);
    const ScoreMap score = score_map();
    const auto reaching = [&](float threshold) {
      return static_cast<int>(
          std::ranges::count_if(keys, [&](float x) { return score(x) >= threshold; }));
    };
    const float* const next = next_thresholds(parts_.critical.data(), parts_.step_down());
    int counted = first_count(parts_.step_down(), parts_.experts);
    while (!next_count(next, counted, reaching)) {
    }
    return counted;
  }

  void rank(int n) noexcept {
    rank_largest(span_of(keys_), parts_.ranking.ties, {scratch_.data(), at(parts_.experts)},
                 {row_.experts.data(), at(n)});
  }

  // The rule sees all keys, or all p-values, in selection order.
  template <bool from_logits>
  int count_from_ranking() const noexcept {
    PerExpert<float> sorted{};
    for (int i = 0; i < parts_.experts; ++i) sorted[at(i)] = keys_[at(row_.experts[at(i)])];
    if constexpr (from_logits) {
      return parts_.rule(span_of(sorted));
    } else {
      const ScoreMap score = score_map();
      PerExpert<double> p{};
      for (int i = 0; i < parts_.experts; ++i)
        p[at(i)] = p_value(score(sorted[at(i)]), [&](double s) { return parts_.null(s); });
      return parts_.rule(span_of(p));
    }
  }

  // With a null distribution per expert, the p-values decide the selection order too.
  void rank_by_expert_nulls(PerExpert<double>& p_of_expert) noexcept {
    rank(parts_.experts);
    const ScoreMap score = score_map();
    for (int j = 0; j < parts_.experts; ++j) {
      p_of_expert[at(j)] =
          p_value(score(keys_[at(j)]), [&](double s) { return parts_.null(s, j); });
    }
    rank_by_p(span_of(p_of_expert), {row_.experts.data(), at(parts_.experts)});
  }

  int count_from_expert_nulls() noexcept {
    PerExpert<double> p_of_expert;
    rank_by_expert_nulls(p_of_expert);
    PerExpert<double> p{};
    for (int i = 0; i < parts_.experts; ++i) p[at(i)] = p_of_expert[at(row_.experts[at(i)])];
    return parts_.rule(span_of(p));
  }

  template <class Survival>
  static double p_value(float score, const Survival& survival) noexcept {
    // NaN and -inf, a masked expert, are the least surprising of all.
    if (!(score > -std::numeric_limits<float>::infinity())) return 1.0;
    return survival(static_cast<double>(score));
  }

  const P& parts_;
  std::span<const float> logits_;
  RoutedRow& row_;
  // Uninitialised: only the first parts_.experts places are used.
  PerExpert<float> keys_;
  PerExpert<std::uint64_t> scratch_;
  bool any_finite_key_ = false;
  bool routable_ = false;
};

}  // namespace fdroute::inline v0::detail
