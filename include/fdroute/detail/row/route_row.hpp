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
#include "fdroute/detail/row/score_maps.hpp"
#include "fdroute/detail/row/write_row.hpp"
#include "fdroute/detail/rule/critical_scores.hpp"
#include "fdroute/limits.hpp"
#include "fdroute/views.hpp"

namespace fdroute::inline v0::detail {

/// One token's routing by the definition, for any policies and any row: P is a Policies.
template <class P>
class GeneralRow {
 public:
  explicit GeneralRow(const P& policies) noexcept : policies_(policies) {}

  template <class T>
  void select(const T* logits) noexcept {
    load(logits);
    if (!routable_) {
      status_ = status_ | TokenStatus::no_finite_logit;
      count_ = policies_.bounds.min_k;
      for (int i = 0; i <= count_ && i < policies_.experts; ++i) experts_[at(i)] = i;
      std::fill_n(weights_.begin(), count_, 0.0F);
      return;
    }
    rank_and_count();
    policies_.weights(span_of(logits_), std::span<const std::int32_t>(experts_.data(), at(count_)),
                      std::span<float>(weights_.data(), at(count_)));
  }

  template <class Id>
  TokenStatus write(RoutingView<Id> out) const noexcept {
    for (int i = 0; i < count_; ++i) {
      out.experts[i] = static_cast<Id>(experts_[at(i)]);
      out.weights[i] = weights_[at(i)];
    }
    // select() ranks at least one expert, so there is a valid id even for an empty selection.
    finish(out, count_, static_cast<Id>(experts_[0]), status_);
    return status_;
  }

  /// The row starts at out.offsets[0].
  template <class Id>
  TokenStatus write(CsrView<Id> out) const noexcept {
    for (int i = 0; i < count_; ++i) {
      out.experts[out.offsets[0] + i] = static_cast<Id>(experts_[at(i)]);
      out.weights[out.offsets[0] + i] = weights_[at(i)];
    }
    finish(out, count_, status_);
    return status_;
  }

  TokenStatus write(DenseView out) const noexcept {
    std::fill_n(out.weights, policies_.experts, 0.0F);
    for (int i = 0; i < count_; ++i) out.weights[experts_[at(i)]] = weights_[at(i)];
    finish(out, count_, status_);
    return status_;
  }

  TokenStatus write(BitmaskView out) const noexcept {
    std::fill_n(out.words, out.stride, std::uint64_t{0});
    for (int i = 0; i < count_; ++i)
      out.words[experts_[at(i)] / 64] |= std::uint64_t{1} << (experts_[at(i)] % 64);
    finish(out, count_, status_);
    return status_;
  }

 private:
  template <class T>
  using PerExpert = std::array<T, max_experts>;

  static constexpr std::size_t at(int i) noexcept { return static_cast<std::size_t>(i); }

  template <class T>
  std::span<const T> span_of(const PerExpert<T>& values) const noexcept {
    return {values.data(), at(policies_.experts)};
  }

  template <class T>
  void load(const T* logits) noexcept {
    bool any_nan = false;
    bool any_finite = false;
    for (int j = 0; j < policies_.experts; ++j) {
      const auto x = static_cast<float>(logits[j]);
      logits_[at(j)] = x;
      any_nan |= std::isnan(x);
      any_finite |= std::isfinite(x);
    }
    policies_.ranking(span_of(logits_), std::span<float>(keys_.data(), at(policies_.experts)));
    any_finite_key_ = false;
    bool any_infinite_key = false;
    for (int j = 0; j < policies_.experts; ++j) {
      any_finite_key_ |= std::isfinite(keys_[at(j)]);
      any_infinite_key |= keys_[at(j)] == std::numeric_limits<float>::infinity();
    }
    routable_ = any_finite_key_ || (any_infinite_key && any_finite);
    status_ = any_nan ? TokenStatus::has_nan : TokenStatus::ok;
  }

  // A score reads finite keys; where a ranking leaves none, +inf and -inf are scores of themselves.
  ScoreMap score_map() const noexcept {
    return any_finite_key_ ? checked(policies_.score(span_of(keys_))) : ScoreMap{};
  }

  void rank_and_count() noexcept {
    if constexpr (ExpertNull<decltype(P::null)>) {
      rank(policies_.experts);
      count_ = policies_.bounded(count_from_expert_nulls());
    } else if constexpr (FixedCountRule<decltype(P::rule)>) {
      count_ = policies_.bounded(policies_.rule.count(policies_.experts));
      rank(std::max(count_, 1));
    } else if constexpr (P::has_critical_scores) {
      const std::span<const float> keys = span_of(keys_);
      const ScoreMap score = score_map();
      const auto passing = [&](float threshold) {
        return static_cast<int>(
            std::ranges::count_if(keys, [&](float x) { return score(x) >= threshold; }));
      };
      constexpr bool step_down = StepDownRule<decltype(P::rule)>;
      int passed = first_count<step_down>(policies_.experts);
      while (!step_to_count<step_down>(policies_.critical.data(), passed, passing)) {
      }
      count_ = policies_.bounded(passed);
      rank(std::max(count_, 1));
    } else {
      rank(policies_.experts);
      count_ = policies_.bounded(count_from_ranking());
    }
  }

  void rank(int n) noexcept {
    rank_largest(span_of(keys_), policies_.ranking.ties, {scratch_.data(), at(policies_.experts)},
                 {experts_.data(), at(n)});
  }

  // The rule sees all keys, or all p-values, in selection order.
  int count_from_ranking() const noexcept {
    PerExpert<float> sorted;
    for (int i = 0; i < policies_.experts; ++i) sorted[at(i)] = keys_[at(experts_[at(i)])];
    if constexpr (LogitRule<decltype(P::rule)>) {
      return policies_.rule(span_of(sorted));
    } else {
      const ScoreMap score = score_map();
      PerExpert<double> p;
      for (int i = 0; i < policies_.experts; ++i)
        p[at(i)] = p_value(score(sorted[at(i)]), [&](double s) { return policies_.null(s); });
      return policies_.rule(span_of(p));
    }
  }

  // With a null distribution per expert, the p-values decide the selection order too.
  int count_from_expert_nulls() noexcept {
    const ScoreMap score = score_map();
    PerExpert<double> p_of_expert;
    for (int j = 0; j < policies_.experts; ++j) {
      p_of_expert[at(j)] =
          p_value(score(keys_[at(j)]), [&](double s) { return policies_.null(s, j); });
    }
    rank_by_p(span_of(p_of_expert), {experts_.data(), at(policies_.experts)});
    PerExpert<double> p;
    for (int i = 0; i < policies_.experts; ++i) p[at(i)] = p_of_expert[at(experts_[at(i)])];
    return policies_.rule(span_of(p));
  }

  template <class Survival>
  static double p_value(float score, const Survival& survival) noexcept {
    // NaN and -inf, a masked expert, are the least surprising of all.
    if (!(score > -std::numeric_limits<float>::infinity())) return 1.0;
    return survival(static_cast<double>(score));
  }

  // Uninitialised: only the first policies_.experts places are used.
  const P& policies_;
  PerExpert<float> logits_;
  PerExpert<float> keys_;
  PerExpert<std::uint64_t> scratch_;
  PerExpert<std::int32_t> experts_;
  PerExpert<float> weights_;
  int count_ = 0;
  bool any_finite_key_ = false;
  bool routable_ = false;
  TokenStatus status_ = TokenStatus::ok;
};

}  // namespace fdroute::inline v0::detail
