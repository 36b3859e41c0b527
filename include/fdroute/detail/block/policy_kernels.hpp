#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "fdroute/bounds.hpp"
#include "fdroute/concepts.hpp"
#include "fdroute/detail/block/count_by_critical_scores.hpp"
#include "fdroute/detail/block/count_by_expert_p.hpp"
#include "fdroute/detail/block/count_by_logits.hpp"
#include "fdroute/detail/block/count_by_p.hpp"
#include "fdroute/detail/block/scores.hpp"
#include "fdroute/detail/block/small_rows.hpp"
#include "fdroute/detail/block/tiles.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/row/recipes.hpp"
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
    /// Fills in the count, set_size and sets of a block of keys, loaded, with exps if reads_exps.
    /// Null: there are no kernels for these policies.
    void (*count)(const void* parts, TokenBlock& keys) noexcept;
    /// The ranking.
    void (*rank)(const void* parts, std::span<const float> logits, std::span<float> keys) noexcept;
    /// The definition, for logits of shape (experts).
    void (*select)(const void* parts, std::span<const float> logits, RoutedRow& row) noexcept;
    /// The definition's ranking, RowRouter::order().
    int (*order)(const void* parts, std::span<const float> logits, RoutedRow& row) noexcept;
    /// The weights, as RoutingWeights.
    void (*weigh)(const void* parts, std::span<const float> logits,
                  std::span<const std::int32_t> experts, std::span<float> weights) noexcept;
    /// load_tiles().
    void (*load_tiles)(const float* from, std::ptrdiff_t stride, int tokens, int experts, float* to,
                       std::ptrdiff_t to_stride) noexcept;
    bool has_sets;       // count() fills in the sets
    bool reads_largest;  // count() reads the largest keys
    bool reads_exps;     // count() reads the keys' exps, and so the largest, too
    bool ranks;          // count() fills in what rank_best() does
    bool step_down;      // for count_one()
    MapKind map_kind;    // for count_one()
  };

  const Calls* calls;
  const void* parts;
  int experts;
  int capacity;
  ExpertBounds bounds;
  bool has_kernels = false;
  bool keys_are_logits = false;
  bool has_small_kernel = false;  // of small_rows.hpp
  bool has_key_recipe = false;    // else keys are those of calls->rank()
  KeyRecipe keys{};
  WeightRecipe weights{};
  const float* critical = nullptr;  // kernel_table(), where count_one() may read it, else null

  /// Whether weights are made of the exps of all experts' logits and their sum.
  bool weighs_by_all() const noexcept { return weights.of_exps() && !weights.renormalize; }

  /// Whether weights are those that write_sets() knows: factors of the exps of a row of logits, of
  /// which the largest is selected if they are renormalised.
  bool weighs_sets() const noexcept {
    return weights.of == WeightRecipe::Of::softmax && weights.factor == 1.0F &&
           (!weights.renormalize || (keys_are_logits && !calls->ranks));
  }

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
  using Order = decltype(P::ranking);
  static constexpr bool by_expert_p = ExpertNull<decltype(P::null)>;
  static constexpr bool available =
      !by_expert_p || CriticalValueRule<Count> || FixedCountRule<Count>;
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
    ErasedRouter router{&calls, &parts, parts.experts, parts.capacity(), parts.bounds};
    if constexpr (available) router.has_kernels = parts.ranking.ties == TieOrder::lowest_index;
    if constexpr (kernel_of<Order> == Kernel::key_recipe) {
      router.keys = parts.ranking.recipe();
      // A rule that reads logits may tell NaN from -inf.
      router.has_key_recipe = router.keys.has_kernel() && !(router.keys.limited && reads_logits);
      router.keys_are_logits = router.keys.copies_logits();
    }
    if constexpr (kernel_of<Weights> == Kernel::weight_recipe)
      router.weights = parts.weights.recipe();
    if constexpr (!has_sets && !by_expert_p) {
      router.has_small_kernel = router.has_kernels && router.keys_are_logits &&
                                router.weights.of != WeightRecipe::Of::other &&
                                SmallRows::fit(parts.experts, router.capacity);
    }
    if constexpr (P::has_critical_scores && has_map_kernel) router.critical = parts.critical.data();
    if (router.weights.of == WeightRecipe::Of::mass) [[unlikely]]
      restrict_to_mass(router);
    return router;
  }

 private:
  /// The masses are those of ranked experts, which must be the largest logits', mass_k of them.
  static void restrict_to_mass(ErasedRouter& router) noexcept {
    router.has_small_kernel = false;
    router.critical = nullptr;
    if (!router.keys_are_logits || by_expert_p) router.weights.of = WeightRecipe::Of::other;
  }

  static const P& of(const void* parts) noexcept { return *static_cast<const P*>(parts); }

  static void select(const void* parts, std::span<const float> logits, RoutedRow& row) noexcept {
    RowRouter<P>(of(parts), logits, row).select();
  }

  static int order(const void* parts, std::span<const float> logits, RoutedRow& row) noexcept {
    return RowRouter<P>(of(parts), logits, row).order();
  }

  static void weigh(const void* parts, std::span<const float> logits,
                    std::span<const std::int32_t> experts, std::span<float> weights) noexcept {
    of(parts).weights(logits, experts, weights);
  }

  static void rank(const void* parts, std::span<const float> logits,
                   std::span<float> keys) noexcept {
    of(parts).ranking(logits, keys);
  }

  static void count(const void* erased, TokenBlock& block) noexcept {
    const P& parts = of(erased);
    if constexpr (by_expert_p) {
      find_maps(parts, block);
      count_by_expert_p<Arch>(block, parts, map_kind);
    } else if constexpr (has_scores) {
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
    constexpr bool reads_exps = ((has_scores || by_expert_p) && std::same_as<Score, LogSoftmax>) ||
                                std::same_as<Count, TopP>;
    constexpr bool logits_suffice = P::has_critical_scores && std::same_as<Score, Logit>;
    constexpr bool reads_largest = by_expert_p || (has_sets && !logits_suffice);
    static_assert(reads_largest || !reads_exps);
    ErasedRouter::Calls result{nullptr,
                               rank,
                               select,
                               order,
                               weigh,
                               load_tiles<Arch>,
                               has_sets,
                               reads_largest,
                               reads_exps,
                               by_expert_p,
                               StepDownRule<Count>,
                               map_kind};
    if constexpr (available) result.count = count;
    return result;
  }();
};

}  // namespace fdroute::inline v0::detail
