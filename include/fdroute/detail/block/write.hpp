#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "fdroute/detail/block/rank.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/block/weigh.hpp"
#include "fdroute/detail/row/exp_sum.hpp"
#include "fdroute/views.hpp"

// The last pass over a block: kernels that write tokens from a given one on, up to the first that
// they cannot write, which is returned.

namespace fdroute::inline v0::detail {

/// How many places to write: 8, 16 or all candidates, so that the loop has no branch on the count.
/// Places past the count get padding.
FDROUTE_INLINE int places_to_write(int candidates) noexcept {
  return candidates <= 8 ? 8 : std::max(candidates, TokenBlock::most_listed);
}

/// Writes the `count` best of a token's candidates and their weights, and padding after them;
/// returns to how many of the places. Ranked ids and weights have room for a multiple of 16.
template <class Arch, class Id>
FDROUTE_INLINE int write_listed(int count, int candidates, const std::int32_t* ranked,
                                const float* weights, const Places<Id>& to) noexcept {
  if constexpr (std::same_as<Id, std::int32_t>) {
    if (candidates <= TokenBlock::most_listed) {
      const int listed = std::min(to.room, TokenBlock::most_listed);
      const auto selected = Ints<Arch>(count) > Ints<Arch>::load(lane_numbers.data());
      choose(selected, Ints<Arch>::load(ranked), Ints<Arch>(to.padding))
          .store_first(listed, to.experts);
      Floats<Arch>::load(weights).store_first(listed, to.weights);
      return listed;
    }
  }
  const int listed = std::min(to.room, places_to_write(candidates));
  for (int i = 0; i < listed; ++i) {
    to.experts[i] = i < count ? static_cast<Id>(ranked[i]) : to.padding;
    to.weights[i] = i < count ? weights[i] : 0.0F;
  }
  return listed;
}

/// Room for the weights of one token's experts.
using WeightsOfMany = std::array<float, ManyRanked::limit + 16>;

/// The weights of a token's `count` best experts: those of weigh_ranked(), or computed to `room`.
template <class Arch>
FDROUTE_INLINE const float* weights_of(const TokenBlock& logits, const WeightRecipe& recipe,
                                       const TokenBlock& block, int t, const std::int32_t* ranked,
                                       WeightsOfMany& room) noexcept {
  const auto at = static_cast<std::size_t>(t);
  if (block.candidates[at] <= TokenBlock::most_listed) return block.weights_of(t);
  weigh_one<Arch>(logits, t, recipe, ranked, block.count[at], room.data());
  return room.data();
}

/// Rows of a view that lists experts, with the weights of a recipe, after weigh_ranked(). A token
/// has at most `capacity` experts.
template <class Arch, class View>
FDROUTE_KERNEL int write_lists(const TokenBlock& logits, const WeightRecipe& recipe,
                               const TokenBlock& block, int t, View out, int capacity) noexcept {
  using Id = std::remove_pointer_t<decltype(out.experts)>;
  ManyRanked many;
  alignas(64) WeightsOfMany room;
  for (; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    if (block.candidates[at] == 0) break;
    const std::int32_t* ranked = many.ranked_of<Arch>(block, t);
    const float* weights = weights_of<Arch>(logits, recipe, block, t, ranked, room);
    const auto row = out.from(t);
    const auto to = places_of(row, capacity, static_cast<Id>(ranked[0]));
    const int written =
        write_listed<Arch>(block.count[at], block.candidates[at], ranked, weights, to);
    write_rest(row, written, to.padding, block.count[at]);
    write_status(row, TokenStatus::ok);
  }
  return t;
}

/// A view that write_sets() writes, of tokens whose selected experts are their set.
template <class View>
inline constexpr bool has_set_kernel = false;
template <>
inline constexpr bool has_set_kernel<DenseView> = true;
template <>
inline constexpr bool has_set_kernel<BitmaskView> = true;

/// Dense rows of tokens whose selected experts are their set. The weights are the exps of `logits`
/// over their sum or, if `renormalize`, over that of the selected ones, of which one is 1.
template <class Arch>
FDROUTE_KERNEL int write_sets(const TokenBlock& logits, const TokenBlock& block, int t,
                              DenseView out, bool renormalize) noexcept {
  const int experts = block.experts;
  for (; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    if (!block.selects_set(t)) break;
    const float* exps = logits.exps_of(t);
    const std::uint64_t* set = block.set_of(t);
    const auto bits_at = [&](int i) FDROUTE_INLINED {
      return static_cast<std::uint32_t>(set[i / 64] >> (i % 64)) & 0xFFFFU;
    };
    Floats<Arch> factor(logits.inverse_sum[at]);
    const auto weights_at = [&](int i) FDROUTE_INLINED {
      return multiply_by_bits(bits_at(i), Floats<Arch>::load(exps + i), factor);
    };
    if (renormalize) {
      factor = Floats<Arch>(1.0F);
      Doubles<Arch> kept(0.0);
      for (int i = 0; i < block.padded_16; i += 16) kept = kept + fixed_point(widen(weights_at(i)));
      factor = Floats<Arch>(static_cast<float>(1.0 / sum(kept)));
    }
    const auto to = out.from(t);
    int i = 0;
    for (; i + 64 <= experts; i += 64) {
      unrolled<4>([&](std::size_t part) FDROUTE_INLINED {
        const int from = i + static_cast<int>(16 * part);
        weights_at(from).store_anywhere(to.weights + from);
      });
    }
    for (; i + 16 <= experts; i += 16) weights_at(i).store_anywhere(to.weights + i);
    if (i < experts) {
      alignas(64) std::array<float, 16> rest;
      weights_at(i).store(rest.data());
      std::copy_n(rest.begin(), experts - i, to.weights + i);
    }
    write_rest(to, block.count[at]);
    write_status(to, TokenStatus::ok);
  }
  return t;
}

/// The sets themselves, of tokens whose selected experts are their set.
template <class>
int write_sets(const TokenBlock&, const TokenBlock& block, int t, BitmaskView out, bool) noexcept {
  const int words = block.stride_64 / 64;
  for (; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    if (!block.selects_set(t)) break;
    const auto to = out.from(t);
    if (to.stride == 1) {
      *to.words = block.sets[at];
    } else {
      std::copy_n(block.set_of(t), words, to.words);
      std::fill_n(to.words + words, to.stride - words, std::uint64_t{0});
    }
    write_rest(to, block.count[at]);
    write_status(to, TokenStatus::ok);
  }
  return t;
}

}  // namespace fdroute::inline v0::detail
