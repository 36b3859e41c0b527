#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "fdroute/detail/block/rank.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/row/exp_sum.hpp"
#include "fdroute/detail/row/write_row.hpp"
#include "fdroute/views.hpp"

// The last pass over a block. These write what they can, and return how many tokens they left.

namespace fdroute::inline v0::detail {

/// The id of a padded row's unused places.
template <class Id>
FDROUTE_INLINE Id padding_of(const RoutingView<Id>& out, std::int32_t best) noexcept {
  return out.padding == Padding::minus_one ? Id(-1) : static_cast<Id>(best);
}

/// How many ranked ids of a token to go through, real ones or not: without a branch on the count.
FDROUTE_INLINE int ranked_ids(int candidates) noexcept {
  return candidates <= 8 ? 8 : std::max(candidates, TokenBlock::few);
}

/// What the exps of a token's `count` best experts are multiplied by. An ordinary row's largest
/// logit is among them: exps relative to it are SoftmaxWeights' of the selected ones.
FDROUTE_INLINE float weight_factor(const TokenBlock& block, int t, const std::int32_t* ranked,
                                   int count, bool renormalize) noexcept {
  float factor = block.inverse_sum[static_cast<std::size_t>(t)];
  if (renormalize) {
    const float* exps = block.exps_of(t);
    double kept = 0.0;
    for (int i = 0; i < count; ++i) kept += fixed_point(static_cast<double>(exps[ranked[i]]));
    factor = static_cast<float>(1.0 / kept);
  }
  return factor;
}

/// Writes a token's best experts and their weights, and padding after them, in no more than
/// `capacity` places; returns how many.
template <class Arch, class Id>
FDROUTE_INLINE int write_listed(const TokenBlock& block, int t, const std::int32_t* ranked,
                                float factor, Id padding, int capacity, Id* experts,
                                float* weights) noexcept {
  const auto at = static_cast<std::size_t>(t);
  const int count = block.count[at];
  const int candidates = block.candidates[at];
  const float* exps = block.exps_of(t);
  if constexpr (std::same_as<Id, std::int32_t>) {
    if (candidates <= TokenBlock::few && block.stride == 64) {
      const int listed = std::min(capacity, TokenBlock::few);
      const auto selected = Ints<Arch>(count) > Ints<Arch>::load(lane_numbers.data());
      const auto ids = choose(selected, Ints<Arch>::load(ranked), Ints<Arch>(0));
      choose(selected, ids, Ints<Arch>(padding)).store_first(listed, experts);
      multiply_by_bits((std::uint32_t{1} << count) - 1, pick(exps, ids), Floats<Arch>(factor))
          .store_first(listed, weights);
      return listed;
    }
  }
  const int listed = std::min(capacity, ranked_ids(candidates));
  for (int i = 0; i < listed; ++i) {
    const std::int32_t expert = ranked[i];
    const float weight = exps[expert] * factor;
    experts[i] = i < count ? static_cast<Id>(expert) : padding;
    weights[i] = i < count ? weight : 0.0F;
  }
  return listed;
}

/// Padded rows of which the weights are exps over their sum, or over that of the selected ones.
template <class Arch, class Id>
FDROUTE_KERNEL int write_exps(TokenBlock& block, RoutingView<Id> out, bool renormalize) noexcept {
  ManyRanked many;
  int left = block.tokens;
  for (int t = 0; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    const int candidates = block.candidates[at];
    block.written[at] = candidates > 0;
    if (!block.written[at]) continue;
    --left;
    const std::int32_t* ranked =
        candidates <= TokenBlock::few ? block.ranked_of(t) : many.rank<Arch>(block, t);
    const int count = block.count[at];
    const float factor = weight_factor(block, t, ranked, count, renormalize);
    const auto to = out.from(t);
    const Id padding = padding_of(to, ranked[0]);
    const int listed =
        write_listed<Arch>(block, t, ranked, factor, padding, to.capacity, to.experts, to.weights);
    std::fill(to.experts + listed, to.experts + to.capacity, padding);
    std::fill(to.weights + listed, to.weights + to.capacity, 0.0F);
    *to.counts = count;
    if (to.status != nullptr) *to.status = TokenStatus::ok;
  }
  return left;
}

/// CSR rows of the same, from token t on up to the first that cannot be written, which is returned.
/// Each is written with no more than `capacity` places, the surplus for the next row to overwrite.
template <class Arch, class Id>
FDROUTE_KERNEL int write_exps(TokenBlock& block, int t, CsrView<Id> out, int capacity,
                              bool renormalize) noexcept {
  ManyRanked many;
  for (; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    const int candidates = block.candidates[at];
    if (candidates == 0) break;
    const std::int32_t* ranked =
        candidates <= TokenBlock::few ? block.ranked_of(t) : many.rank<Arch>(block, t);
    const int count = block.count[at];
    const float factor = weight_factor(block, t, ranked, count, renormalize);
    const auto to = out.from(t);
    write_listed<Arch>(block, t, ranked, factor, Id(0), capacity, to.experts + to.offsets[0],
                       to.weights + to.offsets[0]);
    finish(to, count, TokenStatus::ok);
  }
  return t;
}

/// Dense rows of the same. Only of tokens whose selected experts are their set.
template <class Arch>
FDROUTE_KERNEL int write_exps(TokenBlock& block, DenseView out, bool renormalize) noexcept {
  const int experts = block.experts;
  int left = block.tokens;
  for (int t = 0; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    block.written[at] = block.selects_set(t);
    if (!block.written[at]) continue;
    --left;
    const float* exps = block.exps_of(t);
    const std::uint64_t* set = block.set_of(t);
    const auto bits_at = [&](int i) FDROUTE_INLINED {
      return static_cast<std::uint32_t>(set[i / 64] >> (i % 64)) & 0xFFFFU;
    };
    Floats<Arch> factor(block.inverse_sum[at]);
    const auto weights_at = [&](int i) FDROUTE_INLINED {
      return multiply_by_bits(bits_at(i), Floats<Arch>::load(exps + i), factor);
    };
    if (renormalize) {
      factor = Floats<Arch>(1.0F);
      Doubles<Arch> kept(0.0);
      for (int i = 0; i < block.padded; i += 16) kept = kept + fixed_point(widen(weights_at(i)));
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
    finish(to, block.count[at], TokenStatus::ok);
  }
  return left;
}

/// The sets themselves, of tokens whose selected experts they are.
inline int write_sets(TokenBlock& block, BitmaskView out) noexcept {
  const int words = block.stride / 64;
  int left = block.tokens;
  for (int t = 0; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    block.written[at] = block.selects_set(t);
    if (!block.written[at]) continue;
    --left;
    const auto to = out.from(t);
    if (to.stride == 1) {
      *to.words = block.sets[at];
    } else {
      std::copy_n(block.set_of(t), words, to.words);
      std::fill_n(to.words + words, to.stride - words, std::uint64_t{0});
    }
    finish(to, block.count[at], TokenStatus::ok);
  }
  return left;
}

}  // namespace fdroute::inline v0::detail
