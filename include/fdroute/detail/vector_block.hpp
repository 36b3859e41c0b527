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
#include "fdroute/detail/critical_scores.hpp"
#include "fdroute/detail/finish.hpp"
#include "fdroute/detail/select.hpp"
#include "fdroute/ranking/by_logit.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/views.hpp"
#include "fdroute/weights/softmax.hpp"

namespace fdroute::inline v0::detail {

/// The routing of a block of tokens by vector kernels, with the result of GeneralRow, for the
/// policies and rows that have kernels. P is a Policies.
///
/// A block goes through the kernels in three passes over its tokens: sums, counts, output. The
/// number of steps of a count is unpredictable, and so is a count: within one pass over everything,
/// each misprediction would throw away work already begun on the next token's exps.
template <class Arch, class P>
class VectorBlock {
  using Lane = Floats<Arch>;
  using Row = PaddedRow<Arch>;
  using Score = decltype(P::score);
  static constexpr int max_tokens = 16;
  static constexpr int max_floats = 4096;

 public:
  /// These policies have kernels.
  static constexpr bool available = std::same_as<decltype(P::ranking), ByLogit> &&
                                    !ExpertNull<decltype(P::null)> &&
                                    (FixedCountRule<decltype(P::rule)> || P::has_critical_scores);

  /// The number of tokens to route at a time.
  static constexpr int tokens(int experts) noexcept {
    return std::min(max_tokens, max_floats / padded_to_64(experts));
  }

  explicit VectorBlock(const P& policies) noexcept
      : policies_(policies), stride_(padded_to_64(policies.experts)) {}

  /// Routes at most tokens(experts) tokens; those whose rows are not for these kernels, by
  /// otherwise(logits, out).
  template <class T, class View, class Otherwise>
  TokenStatus route(LogitsView<T> logits, View out, const Otherwise& otherwise) noexcept {
    const auto n = static_cast<int>(logits.tokens);
    for (int t = 0; t < n; ++t) load<View>(logits.row(t), t);
    if constexpr (P::has_critical_scores) {
      for (int t = 0; t < n; ++t) count(token_[at(t)]);
    }
    TokenStatus status = TokenStatus::ok;
    for (int t = 0; t < n; ++t) {
      Token& token = token_[at(t)];
      if (!token.ordinary || !write(token, out.from(t)))
        status = status | otherwise(logits.row(t), out.from(t));
    }
    return status;
  }

 private:
  struct Token {
    Row row;
    float* exps;    // exp(logit - largest)
    float* scores;  // or the logits themselves
    double exp_sum;
    int passing;  // the rule's count, if it has critical scores
    int count;    // within bounds
    bool ordinary;
    ExpertSet set;  // of the `passing` experts
  };

  static constexpr std::size_t at(int i) noexcept { return static_cast<std::size_t>(i); }

  // ---- Sums

  template <class View, class T>
  FDROUTE_INLINE void load(const T* logits, int t) noexcept {
    Token& token = token_[at(t)];
    token.row.x = logits_.data() + t * stride_;
    token.exps = exps_.data() + t * stride_;
    token.ordinary = policies_.ranking.ties == TieOrder::lowest_index &&
                     token.row.load(logits, policies_.experts);
    if (!token.ordinary) return;
    constexpr bool weighs = !std::same_as<View, BitmaskView>;
    if (std::same_as<Score, LogSoftmax> || (weighs && weights_are_exps()))
      token.exp_sum = exp_sum<Arch>(token.row.x, token.row.padded, token.row.largest, token.exps);
    if constexpr (!P::has_critical_scores) {
      token.passing = 0;
      token.count = policies_.bounded(policies_.rule.count(policies_.experts));
    } else if constexpr (std::same_as<Score, Logit>) {
      token.scores = token.row.x;
    } else {
      token.scores = scores_.data() + t * stride_;
      const ScoreMap map = score_map(token);
      for (int i = 0; i < stride_; i += 16) {
        const Lane difference = Lane::load(token.row.x + i) - Lane(map.shift);
        // LogSoftmax's scale is 1.
        const bool scaled = !std::same_as<Score, LogSoftmax>;
        (scaled ? difference * Lane(map.scale) : difference).store(token.scores + i);
      }
    }
  }

  FDROUTE_INLINE ScoreMap score_map(const Token& token) const noexcept {
    if constexpr (std::same_as<Score, LogSoftmax>) {
      return log_softmax_map(token.row.largest, token.exp_sum);
    } else if constexpr (std::same_as<Score, ZScore>) {
      return zscore_map(token.row);
    } else {
      return policies_.score(token.row.logits());
    }
  }

  // ---- Counts

  FDROUTE_INLINE void count(Token& token) noexcept {
    if (!token.ordinary) return;
    const auto passing = [&](float threshold) {
      return at_least<Arch>(token.scores, policies_.experts, threshold, token.set);
    };
    token.passing = count_by_critical_scores<decltype(P::rule)>(policies_.critical.data(),
                                                                policies_.experts, passing);
    token.count = policies_.bounded(token.passing);
  }

  // The bounds left the rule's count as it was: the selected experts are those of the set.
  static bool is_set(const Token& token) noexcept {
    return P::has_critical_scores && token.count == token.passing;
  }

  // ---- Output; all return false, with nothing written, if there are too many candidates

  template <class Id>
  FDROUTE_INLINE bool write(Token& token, RoutingView<Id> out) noexcept {
    const int count = token.count;
    if (!rank_best(token, std::max(count, 1))) return false;
    if (weights_are_exps()) {
      const float factor = normalizer(token);
      for (int i = 0; i < count; ++i) {
        const std::int32_t expert = ranked_[at(i)];
        out.experts[i] = static_cast<Id>(expert);
        out.weights[i] = token.exps[expert] * factor;
      }
    } else {
      for (int i = 0; i < count; ++i) out.experts[i] = static_cast<Id>(ranked_[at(i)]);
      policies_.weights(token.row.logits(), best(count), {out.weights, at(count)});
    }
    finish(out, count, static_cast<Id>(ranked_[0]), TokenStatus::ok);
    return true;
  }

  FDROUTE_INLINE bool write(Token& token, DenseView out) noexcept {
    if (weights_are_exps() && is_set(token)) {
      write_set(token, out.weights);
    } else {
      if (!rank_best(token, std::max(token.count, 1))) return false;
      std::array<float, Candidates::limit> weights;
      const auto experts = best(token.count);
      if (weights_are_exps()) {
        const float factor = normalizer(token);
        for (std::size_t i = 0; i < experts.size(); ++i)
          weights[i] = token.exps[experts[i]] * factor;
      } else {
        policies_.weights(token.row.logits(), experts, {weights.data(), experts.size()});
      }
      std::fill_n(out.weights, policies_.experts, 0.0F);
      for (std::size_t i = 0; i < experts.size(); ++i) out.weights[experts[i]] = weights[i];
    }
    finish(out, token.count, TokenStatus::ok);
    return true;
  }

  FDROUTE_INLINE bool write(Token& token, BitmaskView out) noexcept {
    if (!is_set(token)) {
      if (!rank_best(token, std::max(token.count, 1))) return false;
      token.set.fill(0);
      for (const std::int32_t expert : best(token.count))
        token.set[at(expert) / 64] |= std::uint64_t{1} << (expert % 64);
    }
    const int words = BitmaskView::words_per_token(policies_.experts);
    std::copy_n(token.set.begin(), words, out.words);
    std::fill_n(out.words + words, out.stride - words, std::uint64_t{0});
    finish(out, token.count, TokenStatus::ok);
    return true;
  }

  // Ranks the n best experts, n >= 1.
  FDROUTE_INLINE bool rank_best(Token& token, int n) noexcept {
    const int limit = Candidates::limit;
    const int experts = policies_.experts;
    if (n > token.passing || token.passing > (n <= 16 ? 32 : limit)) {
      // The set does not hold them, or much more than them.
      if (n <= 16) {
        const float reached = reached_by(token.row, n);
        if (reached == -std::numeric_limits<float>::infinity()) return false;
        if (at_least<Arch>(token.row.x, experts, reached, token.set) > limit) return false;
      } else if (experts <= limit) {
        for (int j = 0; j < experts; j += 64)
          token.set[at(j) / 64] = ~std::uint64_t{0} >> std::max(0, j + 64 - experts);
      } else {
        return false;
      }
    }
    list(token.set, token.row, candidates_);
    rank<Arch>(candidates_, ranked_.data());
    return true;
  }

  std::span<const std::int32_t> best(int n) const noexcept { return {ranked_.data(), at(n)}; }

  // ---- Weights

  bool weights_are_exps() const noexcept {
    if constexpr (std::same_as<decltype(P::weights), SoftmaxWeights>) {
      return policies_.weights.temperature == 1.0;
    } else {
      return false;
    }
  }

  bool renormalizes() const noexcept {
    if constexpr (std::same_as<decltype(P::weights), SoftmaxWeights>) {
      return policies_.weights.renormalize;
    } else {
      return false;
    }
  }

  // What the selected experts' exps are multiplied with, these being ranked.
  FDROUTE_INLINE float normalizer(const Token& token) const noexcept {
    double total = token.exp_sum;
    if (renormalizes()) {
      total = 0.0;
      for (int i = 0; i < token.count; ++i)
        total += static_cast<double>(token.exps[ranked_[at(i)]]);
    }
    return static_cast<float>(1.0 / total);
  }

  // The weights of exactly the set.
  FDROUTE_INLINE void write_set(const Token& token, float* weights) const noexcept {
    const int experts = policies_.experts;
    if (token.count == 0) {
      std::fill_n(weights, experts, 0.0F);
      return;
    }
    const Lane threshold(policies_.critical[at(token.count - 1)]);
    const auto kept_at = [&](int i) {
      return choose(Lane::load(token.scores + i) >= threshold, Lane::load(token.exps + i),
                    Lane(0.0F));
    };
    double total = token.exp_sum;
    if (renormalizes()) {
      Doubles<Arch> kept(0.0);
      for (int i = 0; i < token.row.padded; i += 16) kept = kept + widen(kept_at(i));
      total = sum(kept);
    }
    const Lane factor(static_cast<float>(1.0 / total));
    int i = 0;
    for (; i + 16 <= experts; i += 16) (kept_at(i) * factor).store_anywhere(weights + i);
    if (i < experts) {
      alignas(64) std::array<float, 16> rest;
      (kept_at(i) * factor).store(rest.data());
      std::copy_n(rest.begin(), experts - i, weights + i);
    }
  }

  // Uninitialised: only what a block fills is used.
  const P& policies_;
  int stride_;
  alignas(64) std::array<float, max_floats> logits_;
  alignas(64) std::array<float, max_floats> exps_;
  alignas(64) std::array<float, max_floats> scores_;
  std::array<Token, max_tokens> token_;
  Candidates candidates_;
  std::array<std::int32_t, Candidates::limit> ranked_;
};

}  // namespace fdroute::inline v0::detail
