#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/finish.hpp"
#include "fdroute/detail/select.hpp"
#include "fdroute/ranking/by_logit.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/views.hpp"
#include "fdroute/weights/softmax.hpp"

namespace fdroute::inline v0::detail {

/// One token's routing by vector kernels, with the result of GeneralRow, for the policies and rows
/// that have kernels. P is a Policies.
template <class Arch, class P>
class VectorRow {
  using Lane = Floats<Arch>;
  using Score = decltype(P::score);

 public:
  /// These policies have kernels.
  static constexpr bool available = std::same_as<decltype(P::ranking), ByLogit> &&
                                    !ExpertNull<decltype(P::null)> &&
                                    (FixedCountRule<decltype(P::rule)> || P::has_critical_scores);

  explicit VectorRow(const P& policies) noexcept : policies_(policies) {}

  /// Routes one token. Returns false, with nothing written, if its row is not for these kernels.
  template <class T, class Id>
  bool route(const T* logits, RoutingView<Id> out) noexcept {
    if (!load_and_count(logits)) return false;
    std::int32_t best = -1;
    if (count_ > 0 || out.padding == Padding::repeat_valid) {
      if (!find_candidates(std::max(count_, 1))) return false;
      if (weights_are_exps()) {
        exponentiate();
        double kept = 0.0;
        rank<Arch>(candidates_, std::max(count_, 1), [&](int place, std::int32_t expert) {
          if (place == 0) best = expert;
          if (place >= count_) return;
          out.experts[place] = static_cast<Id>(expert);
          out.weights[place] = exp_of(expert);
          kept += static_cast<double>(exp_of(expert));
        });
        const float factor = normalizer(kept);
        for (int i = 0; i < count_; ++i) out.weights[i] *= factor;
      } else {
        const std::span<const std::int32_t> experts = ranked(std::max(count_, 1));
        best = experts[0];
        std::transform(experts.begin(), experts.begin() + count_, out.experts,
                       [](std::int32_t expert) { return static_cast<Id>(expert); });
        policies_.weights(row_.logits(), experts.first(at(count_)), {out.weights, at(count_)});
      }
    }
    finish(out, count_, static_cast<Id>(best), TokenStatus::ok);
    return true;
  }

  template <class T>
  bool route(const T* logits, DenseView out) noexcept {
    if (!load_and_count(logits)) return false;
    if (weights_are_exps() && is_set()) {
      write_dense(out.weights);
    } else {
      if (!find_candidates(std::max(count_, 1))) return false;
      const auto experts = ranked(std::max(count_, 1)).first(at(count_));
      std::array<float, Candidates::limit> weights;
      if (weights_are_exps()) {
        exponentiate();
        double kept = 0.0;
        for (const std::int32_t expert : experts) kept += static_cast<double>(exp_of(expert));
        const float factor = normalizer(kept);
        for (std::size_t i = 0; i < experts.size(); ++i) weights[i] = exp_of(experts[i]) * factor;
      } else {
        policies_.weights(row_.logits(), experts, {weights.data(), experts.size()});
      }
      std::fill_n(out.weights, policies_.experts, 0.0F);
      for (std::size_t i = 0; i < experts.size(); ++i) out.weights[experts[i]] = weights[i];
    }
    finish(out, count_, TokenStatus::ok);
    return true;
  }

  template <class T>
  bool route(const T* logits, MaskView out) noexcept {
    if (!load_and_count(logits)) return false;
    if (!is_set()) {
      if (!find_candidates(std::max(count_, 1))) return false;
      const auto experts = ranked(std::max(count_, 1)).first(at(count_));
      set_.fill(0);
      for (const std::int32_t expert : experts)
        set_[at(expert) / 64] |= std::uint64_t{1} << (expert % 64);
    }
    std::copy_n(set_.begin(), MaskView::words_per_token(policies_.experts), out.words);
    finish(out, count_, TokenStatus::ok);
    return true;
  }

 private:
  static constexpr std::size_t at(int i) noexcept { return static_cast<std::size_t>(i); }

  template <class T>
  bool load_and_count(const T* logits) noexcept {
    if (policies_.ranking.ties != TieOrder::lowest_index) return false;
    if (!row_.load(logits, policies_.experts)) return false;
    if constexpr (P::has_critical_scores) {
      score();
      passing_ = step_up<Arch>(*scores_, policies_.experts, policies_.critical.data(), set_);
      count_ = policies_.bounded(passing_);
    } else {
      count_ = policies_.bounded(policies_.rule.count(policies_.experts));
    }
    return true;
  }

  void score() noexcept {
    if constexpr (std::same_as<Score, Logit>) {
      scores_ = &row_.x;
    } else {
      const ScoreMap map = score_map();
      for (int i = 0; i < policies_.experts; i += 64) {
        unrolled<4>([&](std::size_t part) {
          const std::size_t j = at(i) + 16 * part;
          const Lane difference = Lane::load(row_.x.data() + j) - Lane(map.shift);
          // LogSoftmax's scale is 1.
          if constexpr (std::same_as<Score, LogSoftmax>) {
            difference.store(own_scores_.data() + j);
          } else {
            (difference * Lane(map.scale)).store(own_scores_.data() + j);
          }
        });
      }
      scores_ = &own_scores_;
    }
  }

  ScoreMap score_map() noexcept {
    if constexpr (std::same_as<Score, LogSoftmax>) {
      exponentiate();
      return log_softmax_map(row_.largest, exp_sum_);
    } else if constexpr (std::same_as<Score, ZScore>) {
      return zscore_map(row_);
    } else {
      return policies_.score(row_.logits());
    }
  }

  // The bounds left the rule's count as it was: the selected experts are those of set_.
  bool is_set() const noexcept { return P::has_critical_scores && count_ == passing_; }

  // Lists candidates that hold the n best experts, n >= 1.
  bool find_candidates(int n) noexcept {
    const int limit = Candidates::limit;
    if (n > passing_ || passing_ > (n <= 16 ? 32 : limit)) {
      if (n <= 16) {
        const float reached = reached_by(row_, n);
        if (reached == -std::numeric_limits<float>::infinity()) return false;
        if (at_least<Arch>(row_.x, policies_.experts, reached, set_) > limit) return false;
      } else if (policies_.experts <= limit) {
        for (int j = 0; j < policies_.experts; j += 64)
          set_[at(j) / 64] = ~std::uint64_t{0} >> std::max(0, j + 64 - policies_.experts);
      } else {
        return false;
      }
    }
    list(set_, row_, candidates_);
    return true;
  }

  std::span<const std::int32_t> ranked(int n) noexcept {
    rank<Arch>(candidates_, n,
               [&](int place, std::int32_t expert) { ranked_[at(place)] = expert; });
    return {ranked_.data(), at(n)};
  }

  // ---- Weights

  bool weights_are_exps() const noexcept {
    if constexpr (std::same_as<decltype(P::weights), SoftmaxWeights>) {
      return policies_.weights.temperature == 1.0;
    } else {
      return false;
    }
  }

  void exponentiate() noexcept {
    if (exp_sum_ == 0.0)
      exp_sum_ = exp_sum<Arch>(row_.x.data(), row_.padded, row_.largest, exps_.data());
  }

  float exp_of(std::int32_t expert) const noexcept { return exps_[at(expert)]; }

  // What the exps are multiplied with, `kept` being the sum of the selected experts'.
  float normalizer(double kept) const noexcept {
    if constexpr (std::same_as<decltype(P::weights), SoftmaxWeights>) {
      return static_cast<float>(1.0 / (policies_.weights.renormalize ? kept : exp_sum_));
    } else {
      return 1.0F;
    }
  }

  void write_dense(float* weights) noexcept {
    exponentiate();
    const int experts = policies_.experts;
    if (count_ == 0) {
      std::fill_n(weights, experts, 0.0F);
      return;
    }
    const Lane threshold(policies_.critical[at(count_ - 1)]);
    const auto kept_at = [&](int i) {
      return choose(Lane::load(scores_->data() + i) >= threshold, Lane::load(exps_.data() + i),
                    Lane(0.0F));
    };
    Doubles<Arch> kept(0.0);
    if constexpr (std::same_as<decltype(P::weights), SoftmaxWeights>) {
      if (policies_.weights.renormalize) {
        for (int i = 0; i < row_.padded; i += 16) kept = kept + widen(kept_at(i));
      }
    }
    const Lane factor(normalizer(sum(kept)));
    int i = 0;
    for (; i + 16 <= experts; i += 16) (kept_at(i) * factor).store_anywhere(weights + i);
    if (i < experts) {
      alignas(64) std::array<float, 16> rest;
      (kept_at(i) * factor).store(rest.data());
      std::copy_n(rest.begin(), experts - i, weights + i);
    }
  }

  // Uninitialised: only what the row fills is used.
  const P& policies_;
  PaddedRow<Arch> row_;
  LaneArray exps_;        // exp(logit - largest), if exp_sum_ is not 0
  LaneArray own_scores_;  // unless the score is the logit itself
  const LaneArray* scores_;
  Candidates candidates_;
  std::array<std::int32_t, Candidates::limit> ranked_;
  ExpertSet set_;
  double exp_sum_ = 0.0;
  int passing_ = 0;  // the rule's count, if it has critical scores
  int count_ = 0;
};

}  // namespace fdroute::inline v0::detail
