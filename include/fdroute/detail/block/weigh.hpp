#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "fdroute/detail/block/rank.hpp"
#include "fdroute/detail/block/scores.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/row/exp_sum.hpp"
#include "fdroute/detail/row/kept_mass.hpp"
#include "fdroute/detail/row/recipes.hpp"
#include "fdroute/detail/row/sigmoid.hpp"

// Weights of ranked experts, by a WeightRecipe.

namespace fdroute::inline v0::detail {

/// The weights of one token's `count` ranked experts, in steps, so that a step of one token need
/// not wait for that of another. `ranked` and `weights` are aligned to 64 bytes and have room for a
/// multiple of 16; weights are 0 after the last expert.
template <class Arch, WeightRecipe::Of of, bool renormalize>
class Weigher {
  using Lane = Floats<Arch>;
  static constexpr bool softmax = of != WeightRecipe::Of::sigmoid;
  static constexpr bool by_all = softmax && !renormalize;
  static constexpr float inf = std::numeric_limits<float>::infinity();

 public:
  /// Weights are made by a factor of a token's own: see inverse_of().
  static constexpr bool by_mass = of == WeightRecipe::Of::mass;

  /// `logits` is the block of the logits, with exps and inverse_sum where the weights are those
  /// over all experts' sum.
  FDROUTE_INLINE Weigher(const TokenBlock& logits, const WeightRecipe& recipe) noexcept
      : logits_(logits), recipe_(recipe) {}

  /// Takes the numbers that weights are made of; returns the largest.
  FDROUTE_INLINE float take(int t, const std::int32_t* ranked, int count,
                            float* weights) const noexcept {
    const float* row = by_all ? logits_.exps_of(t) : logits_.rows[static_cast<std::size_t>(t)];
    const auto lanes = Ints<Arch>::load(lane_numbers.data());
    Lane most(-inf);
    each(count, [&](int i) FDROUTE_INLINED {
      const auto inside = Ints<Arch>(count - i) > lanes;
      const auto ids = choose(inside, Ints<Arch>::load(ranked + i), Ints<Arch>(0));
      const Lane all = logits_.stride_64 == 64 ? pick(row, ids) : gather(row, ids);
      const Lane x = smaller(all, Lane::load_anywhere(first_lanes(std::min(count - i, 16))));
      x.store(weights + i);
      most = larger(most, x);
    });
    return softmax && renormalize ? largest(most) : 0.0F;
  }

  /// Makes them numerators; returns the divisor of all or, by mass, the sum of the selected.
  FDROUTE_INLINE double to_numerators(float largest, int count, float* weights) const noexcept {
    Doubles<Arch> lanes(0.0);
    if constexpr (by_all) {
      each(count, [&](int i) FDROUTE_INLINED {
        const Lane e = larger(Lane::load(weights + i), Lane(0.0F));
        e.store(weights + i);
        if constexpr (by_mass) lanes = lanes + fixed_point(widen(e));
      });
      return by_mass ? sum(lanes) : 1.0;
    } else if constexpr (softmax) {
      if (!(std::abs(largest) <= ExpOfDifference<Arch>::limit)) [[unlikely]] {
        if (largest == -inf) {
          std::fill_n(weights, padded_to(16, std::max(count, 1)), 0.0F);
          return inf;
        }
        each(count, [&](int i) FDROUTE_INLINED {
          (Lane::load(weights + i) - Lane(largest)).store(weights + i);
        });
        largest = 0.0F;
      }
      const ExpOfDifference<Arch> exp(largest);
      each(count, [&](int i) FDROUTE_INLINED {
        const Lane e = exp(Lane::load(weights + i));
        e.store(weights + i);
        lanes = lanes + fixed_point(widen(e));
      });
      return sum(lanes);
    } else {
      each(count, [&](int i) FDROUTE_INLINED {
        const Lane s = sigmoid(Lane::load(weights + i));
        s.store(weights + i);
        if constexpr (renormalize) lanes = lanes + widen(s);
      });
      if constexpr (!renormalize) return 1.0;
      const double selected = sum(lanes);
      return selected > 0.0 ? selected + recipe_.parameter : 1.0;
    }
  }

  /// By mass: the sum of the exps of the mass_k largest logits, the first of the ranked.
  FDROUTE_INLINE double sum_of_best(int t, const std::int32_t* ranked) const noexcept {
    const float* exps = logits_.exps_of(t);
    const int n = std::min(recipe_.mass_k, logits_.experts);
    Doubles<Arch> lanes(0.0);
    each(n, [&](int i) FDROUTE_INLINED {
      const auto inside = Ints<Arch>(n - i) > Ints<Arch>::load(lane_numbers.data());
      const auto ids = choose(inside, Ints<Arch>::load(ranked + i), Ints<Arch>(0));
      const Lane all = logits_.stride_64 == 64 ? pick(exps, ids) : gather(exps, ids);
      const Lane e = smaller(all, Lane::load_anywhere(first_lanes(std::min(n - i, 16))));
      lanes = lanes + fixed_point(widen(larger(e, Lane(0.0F))));
    });
    return sum(lanes);
  }

  /// What divide() takes, of one token or, in vectors, many. By mass, `divisor` is the sum of the
  /// selected, `most` sum_of_best() and `all` the sum of all exps.
  template <class V>
  FDROUTE_INLINE V inverse_of(const V& divisor, const V& most, const V& all) const noexcept {
    if constexpr (by_mass)
      return V(1.0) / all * mass_factor(most, divisor, V(0.0), recipe_.parameter);
    return V(1.0) / divisor;
  }

  /// Multiplies the numerators by inverse_of() and by the recipe's factor.
  FDROUTE_INLINE void divide(int t, double inverse, int count, float* weights) const noexcept {
    const auto scaled = [&](const Lane& w) FDROUTE_INLINED {
      if constexpr (by_all && !by_mass)
        return w * Lane(logits_.inverse_sum[static_cast<std::size_t>(t)]);
      if constexpr (softmax) return w * Lane(static_cast<float>(inverse));
      if constexpr (renormalize) return narrow(widen(w) * Doubles<Arch>(inverse));
      return w;
    };
    each(count, [&](int i) FDROUTE_INLINED {
      (scaled(Lane::load(weights + i)) * Lane(recipe_.factor)).store(weights + i);
    });
  }

 private:
  /// body(i) for the vectors of `count` numbers, one at least.
  template <class Body>
  static FDROUTE_INLINE void each(int count, const Body& body) noexcept {
    int i = 0;
    do {
      body(i);
      i += 16;
    } while (i < count);
  }

  const TokenBlock& logits_;
  const WeightRecipe& recipe_;
};

/// use(weigher) for the Weigher of a recipe, which is none by mass.
template <class Arch, class Use>
FDROUTE_INLINE void with_weigher(const TokenBlock& logits, const WeightRecipe& recipe,
                                 const Use& use) noexcept {
  using Of = WeightRecipe::Of;
  if (recipe.of == Of::softmax) {
    if (recipe.renormalize) return use(Weigher<Arch, Of::softmax, true>(logits, recipe));
    return use(Weigher<Arch, Of::softmax, false>(logits, recipe));
  }
  if (recipe.renormalize) return use(Weigher<Arch, Of::sigmoid, true>(logits, recipe));
  use(Weigher<Arch, Of::sigmoid, false>(logits, recipe));
}

/// weigh_ranked() by a Weigher.
template <class Arch, class AnyWeigher>
FDROUTE_INLINE void weigh_tokens(const TokenBlock& logits, const AnyWeigher& weigher,
                                 TokenBlock& block) noexcept {
  TokenBlock::PerToken<float> largest;
  alignas(64) TokenBlock::PerToken<double> divisor = TokenBlock::all(1.0);
  alignas(64) TokenBlock::PerToken<double> most = TokenBlock::all(1.0);
  const auto each = [&](const auto& step) FDROUTE_INLINED {
    for (int t = 0; t < block.tokens; ++t) {
      const auto at = static_cast<std::size_t>(t);
      const int n = block.candidates[at];
      if (n > 0 && n <= TokenBlock::most_listed) step(t, at, block.count[at], block.weights_of(t));
    }
  };
  each([&](int t, std::size_t at, int count, float* weights)
           FDROUTE_INLINED { largest[at] = weigher.take(t, block.ranked_of(t), count, weights); });
  each([&](int, std::size_t at, int count, float* weights)
           FDROUTE_INLINED { divisor[at] = weigher.to_numerators(largest[at], count, weights); });
  if constexpr (AnyWeigher::by_mass) {
    each([&](int t, std::size_t at, int, float*)
             FDROUTE_INLINED { most[at] = weigher.sum_of_best(t, block.ranked_of(t)); });
  }
  alignas(64) TokenBlock::PerToken<double> inverse;
  by_registers<Arch>([&](std::size_t i, const auto& load) FDROUTE_INLINED {
    weigher.inverse_of(load(divisor), load(most), load(logits.exp_sum)).store(inverse.data() + i);
  });
  each([&](int t, std::size_t at, int count, float* weights)
           FDROUTE_INLINED { weigher.divide(t, inverse[at], count, weights); });
}

/// Fills in the weights of a block's `count` best experts, of tokens with at most most_listed
/// candidates; the others' weights are anything. `logits` is the block that the weights are of.
template <class Arch>
FDROUTE_KERNEL void weigh_ranked(const TokenBlock& logits, const WeightRecipe& recipe,
                                 TokenBlock& block) noexcept {
  with_weigher<Arch>(logits, recipe, [&](const auto& weigher) FDROUTE_INLINED {
    weigh_tokens<Arch>(logits, weigher, block);
  });
}

/// weigh_ranked() by mass, of tokens whose mass_k best experts are ranked. A kernel of its own, so
/// that the others need no registers for it.
template <class Arch>
FDROUTE_KERNEL void weigh_by_mass(const TokenBlock& logits, const WeightRecipe& recipe,
                                  TokenBlock& block) noexcept {
  const Weigher<Arch, WeightRecipe::Of::mass, false> weigher(logits, recipe);
  weigh_tokens<Arch>(logits, weigher, block);
}

/// The weights of one token's `count` best experts, at most ManyRanked::limit.
template <class Arch>
FDROUTE_KERNEL void weigh_one(const TokenBlock& logits, int t, const WeightRecipe& recipe,
                              const std::int32_t* ranked, int count, float* weights) noexcept {
  const auto weigh = [&](const auto& weigher) FDROUTE_INLINED {
    constexpr bool by_mass = std::remove_cvref_t<decltype(weigher)>::by_mass;
    const float largest = weigher.take(t, ranked, count, weights);
    const double divisor = weigher.to_numerators(largest, count, weights);
    double most = 1.0;
    if constexpr (by_mass) most = weigher.sum_of_best(t, ranked);
    const double all = logits.exp_sum[static_cast<std::size_t>(t)];
    weigher.divide(t, weigher.inverse_of(divisor, most, all), count, weights);
  };
  if (recipe.of == WeightRecipe::Of::mass)
    return weigh(Weigher<Arch, WeightRecipe::Of::mass, false>(logits, recipe));
  with_weigher<Arch>(logits, recipe, weigh);
}

}  // namespace fdroute::inline v0::detail
