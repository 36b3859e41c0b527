#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

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
#include "fdroute/detail/row/parts.hpp"
#include "fdroute/detail/row/recipes.hpp"
#include "fdroute/detail/row/route_row.hpp"
#include "fdroute/ranking/by_logit.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/top_p.hpp"
#include "fdroute/ties.hpp"
#include "fdroute/weights/softmax.hpp"

namespace fdroute::inline v0::detail {

/// A router without the types of its policies. What is compiled for a form of output is compiled
/// for this alone, once for all policies; what is compiled for policies, once for all forms.
struct ErasedRouter {
  /// What depends on the types, for one Arch. `parts` points to the RouterParts.
  struct Calls {
    /// Fills in the count, set_size and sets of a block of keys, loaded, with exps if reads_exps.
    /// Called only if has_kernels.
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
  };

  const Calls* calls;
  const void* parts;
  int experts;
  int capacity;
  ExpertBounds bounds;
  bool has_kernels = false;
  bool has_sets = false;       // count() fills in the sets
  bool reads_largest = false;  // count() reads the largest keys
  bool reads_exps = false;     // count() reads the keys' exps, and so the largest, too
  bool ranks = false;          // count() fills in what rank_best() does
  bool step_down = false;      // for route_one()
  MapKind map_kind{};          // for route_one()
  bool keys_are_logits = false;
  bool has_small_kernel = false;  // of small_rows.hpp
  bool has_one_kernel = false;    // route_one()
  bool has_key_recipe = false;    // else keys are those of calls->rank()
  KeyRecipe keys{};
  WeightRecipe weights{};
  const float* critical = nullptr;  // kernel_table(), where route_one() counts by it, else null

  /// Whether weights are made of the exps of all experts' logits and their sum.
  bool weighs_by_all() const noexcept { return weights.of_exps() && !weights.renormalize; }

  /// Whether weights are those that write_sets() knows: factors of the exps of a row of logits, of
  /// which the largest is selected if they are renormalised.
  bool weighs_sets() const noexcept {
    return weights.of == WeightRecipe::Of::softmax && weights.factor == 1.0F &&
           (!weights.renormalize || (keys_are_logits && !ranks));
  }

  /// How many tokens to route at a time.
  int block_tokens() const noexcept { return has_kernels ? TokenBlock::tokens_of(experts) : 1; }
};

/// The scores that block kernels know.
enum class ScoreKind : std::uint8_t { logit, log_softmax, zscore, other };

/// What the type of a score says of it. Specialised, as CountOf, for a type that stands for any.
template <class S>
struct ScoreOf {
  static constexpr ScoreKind kind = std::same_as<S, Logit>        ? ScoreKind::logit
                                    : std::same_as<S, LogSoftmax> ? ScoreKind::log_softmax
                                    : std::same_as<S, ZScore>     ? ScoreKind::zscore
                                                                  : ScoreKind::other;

  static constexpr ScoreKind kind_of(const S&) noexcept { return kind; }

  /// f(kind), a std::integral_constant.
  template <class F>
  static void visit(const S&, const F& f) {
    f(std::integral_constant<ScoreKind, kind>{});
  }
};

constexpr MapKind map_kind_of(ScoreKind score) noexcept {
  return score == ScoreKind::logit         ? MapKind::identity
         : score == ScoreKind::log_softmax ? MapKind::shift
                                           : MapKind::affine;
}

/// The functions of an ErasedRouter: where policies meet the kernels that they open. P is a
/// RouterParts.
template <class Arch, class P>
class PolicyKernels {
  using Score = decltype(P::score);
  using Weights = decltype(P::weights);
  using Order = decltype(P::ranking);

 public:
  /// Valid as long as `parts`.
  static ErasedRouter erase(const P& parts) noexcept {
    ErasedRouter router{&calls, &parts, parts.experts, parts.capacity(), parts.bounds};
    const CountKind by = parts.count_kind();
    const ScoreKind score = ScoreOf<Score>::kind_of(parts.score);
    const bool has_scores = by_expert_p(by) || !(is_fixed(by) || reads_logits(by));
    const bool by_critical_scores = by == CountKind::critical_scores;
    router.has_kernels = by != CountKind::expert_p && parts.ranking.ties == TieOrder::lowest_index;
    router.has_sets = !is_fixed(by);
    router.reads_largest =
        by_expert_p(by) || (router.has_sets && !(by_critical_scores && score == ScoreKind::logit));
    router.reads_exps = (has_scores && score == ScoreKind::log_softmax) || by == CountKind::nucleus;
    router.ranks = by_expert_p(by);
    router.step_down = parts.step_down();
    router.map_kind = map_kind_of(score);
    if constexpr (kernel_of<Order> == Kernel::key_recipe) {
      router.keys = parts.ranking.recipe();
      // A rule that reads logits may tell NaN from -inf.
      router.has_key_recipe =
          router.keys.has_kernel() && !(router.keys.limited && reads_logits(by));
      router.keys_are_logits = router.keys.copies_logits();
    }
    if constexpr (kernel_of<Weights> == Kernel::weight_recipe)
      router.weights = parts.weights.recipe();
    router.has_small_kernel = by == CountKind::fixed && router.has_kernels &&
                              router.keys_are_logits &&
                              router.weights.of != WeightRecipe::Of::other &&
                              SmallRows::fit(parts.experts, router.capacity);
    if (by_critical_scores && score != ScoreKind::other && parts.experts <= 64)
      router.critical = parts.critical.data();
    router.has_one_kernel =
        router.has_kernels &&
        (router.critical != nullptr || (by == CountKind::fixed && router.capacity >= 1 &&
                                        router.capacity <= TokenBlock::most_listed)) &&
        (router.weights.of == WeightRecipe::Of::sigmoid ||
         (router.weights.of == WeightRecipe::Of::softmax &&
          (router.keys_are_logits || !router.weights.renormalize)));
    if (router.weights.of == WeightRecipe::Of::mass) [[unlikely]]
      restrict_to_mass(router);
    return router;
  }

 private:
  /// The masses are those of ranked experts, which must be the largest logits', mass_k of them.
  static void restrict_to_mass(ErasedRouter& router) noexcept {
    router.has_small_kernel = false;
    if (!router.keys_are_logits || router.ranks) router.weights.of = WeightRecipe::Of::other;
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
    of(erased).with_count_kind([&](auto kind) { count_by<kind()>(of(erased), block); });
  }

  template <CountKind kind>
  static void count_by(const P& parts, TokenBlock& block) noexcept {
    if constexpr (kind == CountKind::fixed) {
      block.set_size.fill(-1);
      block.count.fill(parts.bounded(parts.rule.count(parts.experts)));
    } else if constexpr (kind == CountKind::margin) {
      count_by_margin<Arch>(block, parts.rule.margin(), parts.bounds);
    } else if constexpr (kind == CountKind::nucleus) {
      count_by_nucleus<Arch>(block, TopP{parts.rule.nucleus()}, parts.bounds);
    } else if constexpr (kind == CountKind::logits) {
      count_by_logits<Arch>(block, parts.rule, parts.bounds);
    } else if constexpr (kind != CountKind::expert_p) {
      ScoreOf<Score>::visit(parts.score, [&](auto score) { find_maps<score()>(parts, block); });
      const MapKind map_kind = map_kind_of(ScoreOf<Score>::kind_of(parts.score));
      if constexpr (by_expert_p(kind)) {
        count_by_expert_p<Arch, kind>(block, parts, map_kind);
      } else if constexpr (kind == CountKind::critical_scores) {
        count_by_critical_scores<Arch>(block, parts.critical.data(), parts.step_down(), map_kind,
                                       parts.bounds);
      } else {
        count_by_p<Arch>(block, parts.rule, parts.null, map_kind, parts.bounds);
      }
    }
  }

  template <ScoreKind kind>
  static void find_maps(const P& parts, TokenBlock& block) noexcept {
    if constexpr (kind == ScoreKind::log_softmax) {
      map_by_log_softmax<Arch>(block);
    } else if constexpr (kind == ScoreKind::zscore) {
      map_by_zscore<Arch>(block);
    } else if constexpr (kind == ScoreKind::other) {
      for (std::size_t t = 0; t < static_cast<std::size_t>(block.tokens); ++t) {
        const std::span logits(block.rows[t], static_cast<std::size_t>(parts.experts));
        if (block.ordinary[t]) block.map[t] = checked(parts.score(logits));
      }
    }
  }

  static constexpr ErasedRouter::Calls calls = {count, rank,  select,
                                                order, weigh, load_tiles<Arch>};
};

}  // namespace fdroute::inline v0::detail
