#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/block/count_by_critical_scores.hpp"
#include "fdroute/detail/block/count_by_logits.hpp"
#include "fdroute/detail/block/count_by_p.hpp"
#include "fdroute/detail/block/one_token.hpp"
#include "fdroute/detail/block/rank.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/block/write.hpp"
#include "fdroute/detail/row/write_row.hpp"
#include "fdroute/ranking/by_logit.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/views.hpp"
#include "fdroute/weights/softmax.hpp"

namespace fdroute::inline v0::detail {

/// The routing of a block of tokens by vector kernels, with the result of GeneralRow, for the
/// policies and rows that have kernels. P is a Policies.
template <class Arch, class P>
class VectorBlock {
  using Score = decltype(P::score);
  using Count = decltype(P::rule);
  // Some counts depend on the row: on its logits, on p-values or on scores. Those kernels fill in
  // the sets, too.
  static constexpr bool has_sets = !FixedCountRule<Count>;
  static constexpr bool reads_logits = has_sets && !P::has_critical_scores && LogitRule<Count>;
  static constexpr bool has_scores = has_sets && !reads_logits;
  static constexpr bool reads_p = has_scores && !P::has_critical_scores;
  static constexpr bool has_map_kernel =
      std::same_as<Score, Logit> || std::same_as<Score, LogSoftmax> || std::same_as<Score, ZScore>;

 public:
  /// These policies have kernels.
  static constexpr bool available =
      std::same_as<decltype(P::ranking), ByLogit> && !ExpertNull<decltype(P::null)>;

  /// Routes at most TokenBlock::tokens_of(experts) tokens; those whose rows are not for these
  /// kernels, by otherwise(logits, out).
  template <class T, class View, class Otherwise>
  static TokenStatus route(const P& policies, LogitsView<T> logits, View out,
                           const Otherwise& otherwise) noexcept {
    TokenBlock block(static_cast<int>(logits.tokens), policies.experts);
    TokenStatus status = TokenStatus::ok;
    if (policies.ranking.ties == TieOrder::lowest_index) {
      VectorBlock self{policies, block};
      constexpr bool weighs = !std::same_as<View, BitmaskView>;
      load_rows<Arch, weighs || !(P::has_critical_scores && std::same_as<Score, Logit>)>(block,
                                                                                         logits);
      if constexpr (P::has_critical_scores && has_map_kernel && requires { out.capacity; }) {
        if (block.tokens == 1 && block.stride == 64 && self.weights_are_exps() &&
            count_one<Arch>(block, policies.critical.data(), map_kind(), StepDownRule<Count>,
                            policies.bounds)) {
          write_exps<Arch>(block, out, self.renormalizes());
          return TokenStatus::ok;
        }
      }
      self.count(weighs);
      if constexpr (requires { out.offsets; }) {
        // In order: a row starts where the one before it ends.
        rank_best<Arch>(block);
        for (int t = 0; t < block.tokens; ++t) {
          t = self.write(t, out);
          if (t < block.tokens) status = status | otherwise(logits.row(t), out.from(t));
        }
        return status;
      } else {
        if (self.write(out) == 0) return TokenStatus::ok;
      }
    }
    for (int t = 0; t < block.tokens; ++t) {
      if (!block.written[at(t)]) status = status | otherwise(logits.row(t), out.from(t));
    }
    return status;
  }

 private:
  VectorBlock(const P& policies, TokenBlock& block) noexcept : policies_(policies), block_(block) {}

  static constexpr std::size_t at(int i) noexcept { return static_cast<std::size_t>(i); }

  static constexpr MapKind map_kind() noexcept {
    if constexpr (std::same_as<Score, Logit>) return MapKind::identity;
    return std::same_as<Score, LogSoftmax> ? MapKind::shift : MapKind::affine;
  }

  void count(bool weighs) noexcept {
    constexpr bool by_log_softmax = has_scores && std::same_as<Score, LogSoftmax>;
    constexpr bool by_sums = std::same_as<Count, TopP>;
    if (by_log_softmax || by_sums || (weighs && weights_are_exps())) take_exps<Arch>(block_);
    if constexpr (has_scores) {
      if constexpr (std::same_as<Score, LogSoftmax>) {
        map_by_log_softmax<Arch>(block_);
      } else if constexpr (std::same_as<Score, ZScore>) {
        map_by_zscore<Arch>(block_);
      } else if constexpr (!std::same_as<Score, Logit>) {
        for (int t = 0; t < block_.tokens; ++t) {
          if (block_.ordinary[at(t)]) block_.map[at(t)] = checked(policies_.score(logits_of(t)));
        }
      }
      if constexpr (reads_p) {
        count_by_p<Arch>(block_, policies_.rule, policies_.null, map_kind(), policies_.bounds);
      } else {
        count_passing<Arch, StepDownRule<Count>>(block_, policies_.critical.data(), map_kind(),
                                                 policies_.bounds);
      }
    } else if constexpr (reads_logits) {
      if constexpr (kernel_of<Count> == Kernel::margin) {
        count_within<Arch>(block_, policies_.rule.margin(), policies_.bounds);
      } else {
        count_by_logits<Arch>(block_, policies_.rule, policies_.bounds);
      }
    } else {
      block_.passing.fill(-1);
      block_.count.fill(policies_.bounded(policies_.rule.count(policies_.experts)));
    }
  }

  // ---- Output

  // What remains to be written, by any of these, is written from the ranked experts.

  template <class Id>
  int write(RoutingView<Id> out) noexcept {
    rank_best<Arch>(block_);
    return weights_are_exps() ? write_exps<Arch>(block_, out, renormalizes()) : write_ranked(out);
  }

  int write(DenseView out) noexcept {
    if (has_sets && weights_are_exps()) {
      if (write_exps<Arch>(block_, out, renormalizes()) == 0) return 0;
    }
    rank_best<Arch>(block_);
    return write_ranked(out);
  }

  int write(BitmaskView out) noexcept {
    if (has_sets && write_sets(block_, out) == 0) return 0;
    rank_best<Arch>(block_);
    return write_ranked(out);
  }

  /// From token t on up to the first that is left, which is returned.
  template <class Id>
  int write(int t, CsrView<Id> out) noexcept {
    if (weights_are_exps())
      return write_exps<Arch>(block_, t, out, policies_.capacity(), renormalizes());
    ManyRanked many;
    for (; t < block_.tokens && block_.candidates[at(t)] > 0; ++t) write_ranked(t, many, out);
    return t;
  }

  /// Writes what is not written yet, with any weights, and returns how many tokens are left.
  template <class View>
  [[gnu::noinline]] int write_ranked(View out) noexcept {
    ManyRanked many;
    int left = 0;
    for (int t = 0; t < block_.tokens; ++t) {
      if (block_.written[at(t)]) continue;
      block_.written[at(t)] = block_.candidates[at(t)] > 0;
      if (block_.written[at(t)]) {
        write_ranked(t, many, out);
      } else {
        ++left;
      }
    }
    return left;
  }

  template <class View>
  void write_ranked(int t, ManyRanked& many, View out) const noexcept {
    const std::int32_t* ranked = block_.candidates[at(t)] <= TokenBlock::few
                                     ? block_.ranked_of(t)
                                     : many.template rank<Arch>(block_, t);
    const std::span<const std::int32_t> experts(ranked, at(block_.count[at(t)]));
    std::array<float, ManyRanked::limit> weights;
    if constexpr (!std::same_as<View, BitmaskView>) weigh(t, experts, weights.data());
    put(experts, weights.data(), ranked[0], out.from(t));
  }

  void weigh(int t, std::span<const std::int32_t> experts, float* weights) const noexcept {
    if (!weights_are_exps())
      return policies_.weights(logits_of(t), experts, {weights, experts.size()});
    const float* exps = block_.exps_of(t);
    const float factor =
        weight_factor(block_, t, experts.data(), static_cast<int>(experts.size()), renormalizes());
    for (std::size_t i = 0; i < experts.size(); ++i) weights[i] = exps[experts[i]] * factor;
  }

  template <class Id>
  void put(std::span<const std::int32_t> experts, const float* weights, std::int32_t best,
           RoutingView<Id> out) const noexcept {
    std::transform(experts.begin(), experts.end(), out.experts,
                   [](std::int32_t expert) { return static_cast<Id>(expert); });
    std::copy_n(weights, experts.size(), out.weights);
    finish(out, static_cast<int>(experts.size()), static_cast<Id>(best), TokenStatus::ok);
  }

  template <class Id>
  void put(std::span<const std::int32_t> experts, const float* weights, std::int32_t,
           CsrView<Id> out) const noexcept {
    std::transform(experts.begin(), experts.end(), out.experts + out.offsets[0],
                   [](std::int32_t expert) { return static_cast<Id>(expert); });
    std::copy_n(weights, experts.size(), out.weights + out.offsets[0]);
    finish(out, static_cast<int>(experts.size()), TokenStatus::ok);
  }

  void put(std::span<const std::int32_t> experts, const float* weights, std::int32_t,
           DenseView out) const noexcept {
    std::fill_n(out.weights, policies_.experts, 0.0F);
    for (std::size_t i = 0; i < experts.size(); ++i) out.weights[experts[i]] = weights[i];
    finish(out, static_cast<int>(experts.size()), TokenStatus::ok);
  }

  void put(std::span<const std::int32_t> experts, const float*, std::int32_t,
           BitmaskView out) const noexcept {
    std::fill_n(out.words, out.stride, std::uint64_t{0});
    for (const std::int32_t expert : experts)
      out.words[expert / 64] |= std::uint64_t{1} << (expert % 64);
    finish(out, static_cast<int>(experts.size()), TokenStatus::ok);
  }

  // ---- Weights

  std::span<const float> logits_of(int t) const noexcept {
    return {block_.rows[at(t)], at(policies_.experts)};
  }

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

  const P& policies_;
  TokenBlock& block_;
};

}  // namespace fdroute::inline v0::detail
