#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "fdroute/bounds.hpp"
#include "fdroute/concepts.hpp"
#include "fdroute/detail/block/count_by_critical_scores.hpp"
#include "fdroute/detail/block/count_by_logits.hpp"
#include "fdroute/detail/block/count_by_p.hpp"
#include "fdroute/detail/block/scores.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/row/route_row.hpp"
#include "fdroute/ranking/by_logit.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/ties.hpp"
#include "fdroute/weights/softmax.hpp"

namespace fdroute::inline v0::detail {

/// A router without the types of its policies. What is compiled for a form of output is compiled
/// for this alone, once for all policies; what is compiled for policies, once for all forms.
struct ErasedRouter {
  /// What depends on the types, for one Arch. `parts` points to the RouterParts.
  struct Calls {
    /// Fills in a loaded block's count, set_size and sets, and whatever those need; the exps too if
    /// `weighs` and the weights are made of them. Null: there are no kernels for these policies.
    void (*count)(const void* parts, TokenBlock& block, bool weighs) noexcept;
    /// The definition, for logits of shape (experts).
    void (*select)(const void* parts, std::span<const float> logits, RoutedRow& row) noexcept;
    /// The weights, as RoutingWeights.
    void (*weigh)(const void* parts, std::span<const float> logits,
                  std::span<const std::int32_t> experts, std::span<float> weights) noexcept;
    bool has_sets;       // count() fills in the sets
    bool reads_largest;  // count() reads the largest logits
    bool step_down;      // for count_one()
    MapKind map_kind;    // for count_one()
  };

  const Calls* calls;
  const void* parts;
  int experts;
  int capacity;
  ExpertBounds bounds;
  bool has_kernels;
  const SoftmaxWeights* softmax;  // the weights, if they are these, else null
  bool weights_are_exps;  // over their sum, or, renormalised, over that of the selected ones
  const float* critical;  // kernel_table(), where count_one() may read it, else null

  bool renormalizes() const noexcept { return softmax != nullptr && softmax->renormalize; }

  /// How many tokens to route at a time.
  int block_tokens() const noexcept { return has_kernels ? TokenBlock::tokens_of(experts) : 1; }
};

/// The functions of an ErasedRouter: where policies meet the kernels that they open. P is a
/// RouterParts.
template <class Arch, class P>
class PolicyKernels {
  using Score = decltype(P::score);
  using Count = decltype(P::rule);
  using Weights = decltype(P::weights);
  using Ranking = decltype(P::ranking);
  static constexpr bool available =
      (std::same_as<Ranking, ByLogit> || kernel_of<Ranking> == Kernel::by_logit) &&
      !ExpertNull<decltype(P::null)>;
  // Some counts depend on the row: on its logits, on p-values or on scores. Those kernels fill in
  // the sets, too.
  static constexpr bool has_sets = !FixedCountRule<Count>;
  static constexpr bool reads_logits = has_sets && !P::has_critical_scores && LogitRule<Count>;
  static constexpr bool has_scores = has_sets && !reads_logits;
  static constexpr bool has_map_kernel =
      std::same_as<Score, Logit> || std::same_as<Score, LogSoftmax> || std::same_as<Score, ZScore>;
  static constexpr MapKind map_kind = std::same_as<Score, Logit>        ? MapKind::identity
                                      : std::same_as<Score, LogSoftmax> ? MapKind::shift
                                                                        : MapKind::affine;

 public:
  /// Valid as long as `parts`.
  static ErasedRouter erase(const P& parts) noexcept {
    ErasedRouter router{&calls, &parts,  parts.experts, parts.capacity(), parts.bounds,
                        false,  nullptr, false,         nullptr};
    router.has_kernels = ranks_by_kernels(parts);
    router.softmax = softmax_of(parts);
    router.weights_are_exps = weights_are_exps(parts);
    if constexpr (P::has_critical_scores && has_map_kernel) router.critical = parts.critical.data();
    return router;
  }

 private:
  static const P& of(const void* parts) noexcept { return *static_cast<const P*>(parts); }

  static bool ranks_by_kernels(const P& parts) noexcept {
    if constexpr (!available) return false;
    if constexpr (kernel_of<Ranking> == Kernel::by_logit) {
      if (!parts.ranking.is_by_logit()) return false;
    }
    return parts.ranking.ties == TieOrder::lowest_index;
  }

  /// The weights, if they are SoftmaxWeights, else null.
  static const SoftmaxWeights* softmax_of(const P& parts) noexcept {
    if constexpr (std::same_as<Weights, SoftmaxWeights>) {
      return &parts.weights;
    } else if constexpr (kernel_of<Weights> == Kernel::softmax) {
      return parts.weights.softmax();
    } else {
      return nullptr;
    }
  }

  static bool weights_are_exps(const P& parts) noexcept {
    const SoftmaxWeights* softmax = softmax_of(parts);
    return softmax != nullptr && softmax->temperature == 1.0;
  }

  static void select(const void* parts, std::span<const float> logits, RoutedRow& row) noexcept {
    RowRouter<P>(of(parts), logits, row).select();
  }

  static void weigh(const void* parts, std::span<const float> logits,
                    std::span<const std::int32_t> experts, std::span<float> weights) noexcept {
    of(parts).weights(logits, experts, weights);
  }

  static void count(const void* erased, TokenBlock& block, bool weighs) noexcept {
    const P& parts = of(erased);
    if (needs_exps(parts, weighs)) take_exps<Arch>(block);
    if constexpr (has_scores) {
      find_maps(parts, block);
      if constexpr (P::has_critical_scores) {
        count_by_critical_scores<Arch, StepDownRule<Count>>(block, parts.critical.data(), map_kind,
                                                            parts.bounds);
      } else {
        count_by_p<Arch>(block, parts.rule, parts.null, map_kind, parts.bounds);
      }
    } else if constexpr (reads_logits) {
      if constexpr (kernel_of<Count> == Kernel::margin) {
        count_by_margin<Arch>(block, parts.rule.margin(), parts.bounds);
      } else {
        count_by_logits<Arch>(block, parts.rule, parts.bounds);
      }
    } else {
      block.set_size.fill(-1);
      block.count.fill(parts.bounded(parts.rule.count(parts.experts)));
    }
  }

  static bool needs_exps(const P& parts, bool weighs) noexcept {
    if constexpr ((has_scores && std::same_as<Score, LogSoftmax>) || std::same_as<Count, TopP>)
      return true;
    return weighs && weights_are_exps(parts);
  }

  static void find_maps(const P& parts, TokenBlock& block) noexcept {
    if constexpr (std::same_as<Score, LogSoftmax>) {
      map_by_log_softmax<Arch>(block);
    } else if constexpr (std::same_as<Score, ZScore>) {
      map_by_zscore<Arch>(block);
    } else if constexpr (!std::same_as<Score, Logit>) {
      for (std::size_t t = 0; t < static_cast<std::size_t>(block.tokens); ++t) {
        const std::span logits(block.rows[t], static_cast<std::size_t>(parts.experts));
        if (block.ordinary[t]) block.map[t] = checked(parts.score(logits));
      }
    }
  }

  static constexpr ErasedRouter::Calls calls = [] {
    ErasedRouter::Calls result{nullptr,
                               select,
                               weigh,
                               has_sets,
                               !(P::has_critical_scores && std::same_as<Score, Logit>),
                               StepDownRule<Count>,
                               map_kind};
    if constexpr (available) result.count = count;
    return result;
  }();
};

}  // namespace fdroute::inline v0::detail
