#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "fdroute/detail/block/rank.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/row/recipes.hpp"
#include "fdroute/detail/row/sigmoid.hpp"
#include "fdroute/detail/simd/lanes.hpp"

// The keys of a block's experts, by a KeyRecipe, as rows of another block. An expert that is not
// usable has key -inf; where a ranking says NaN, nothing tells the two apart but the order among
// them, which the definition decides.

namespace fdroute::inline v0::detail {

/// Sigmoids plus bias, of all rows. A row's padding is -inf.
template <class Arch>
FDROUTE_KERNEL void find_sigmoid_keys(const TokenBlock& logits, const float* bias,
                                      TokenBlock& keys) noexcept {
  using Lane = Floats<Arch>;
  const Lane masked(-std::numeric_limits<float>::infinity());
  const int whole = logits.experts / 16 * 16;  // the bias ends with the experts
  alignas(64) std::array<float, 16> rest{};
  if (bias != nullptr) std::copy(bias + whole, bias + logits.experts, rest.begin());
  for (int t = 0; t < logits.tokens; ++t) {
    const float* x = logits.rows[static_cast<std::size_t>(t)];
    float* key = keys.copy_of(t);
    const auto find = [&](int i, const float* bias_at) FDROUTE_INLINED {
      const Lane logit = Lane::load_anywhere(x + i);
      Lane sum = sigmoid(logit);
      if (bias_at != nullptr) sum = sum + Lane::load_anywhere(bias_at);
      choose(logit > masked, sum, masked).store(key + i);
    };
    if (bias == nullptr) {
      for (int i = 0; i < logits.padded_16; i += 16) find(i, nullptr);
    } else {
      for (int i = 0; i < whole; i += 16) find(i, bias + i);
      if (whole < logits.padded_16) find(whole, rest.data());
    }
    for (int i = logits.padded_16; i < logits.stride_64; i += 16) masked.store(key + i);
  }
}

/// Groups of consecutive experts, of all tokens of a block of keys.
template <class Arch>
class Groups {
  using Lane = Floats<Arch>;

 public:
  FDROUTE_INLINE Groups(TokenBlock& keys, const KeyRecipe& recipe) noexcept
      : keys_(keys), recipe_(recipe), groups_(recipe.groups), size_(keys.experts / recipe.groups) {}

  /// Gives the experts of all groups but the `kept` best the key recipe.masked, unless it is -inf.
  FDROUTE_INLINE void limit() noexcept {
    // A group's last vector may end after the last row.
    Lane(masked).store(keys_.copy_of(keys_.tokens));
    const int pairs = keys_.tokens * groups_;
    for (int p = 0; p < pairs; p += 16) {
      const int count = std::min(16, pairs - p);
      recipe_.sum_of_top2 ? score<true>(p, count) : score<false>(p, count);
    }
    const std::uint32_t all = (std::uint32_t{1} << groups_) - 1;
    for (int t = 0; t < keys_.tokens; ++t) {
      if (!keys_.ordinary[static_cast<std::size_t>(t)]) continue;
      for (std::uint32_t lost = all & ~kept_of(t); lost != 0; lost &= lost - 1)
        mask(keys_.copy_of(t) + std::ptrdiff_t{size_} * std::countr_zero(lost));
    }
  }

 private:
  static constexpr float masked = -std::numeric_limits<float>::infinity();

  /// The largest and, if `top2`, the second largest number, lane by lane.
  template <bool top2>
  struct Best {
    Lane first{masked};
    Lane second{masked};

    FDROUTE_INLINE void add(const Lane& x) noexcept {
      if constexpr (top2) second = larger(second, smaller(first, x));
      first = larger(first, x);
    }
  };

  /// The lanes of a group's last vector, those after its end -inf.
  FDROUTE_INLINE Lane last(const float* from) const noexcept {
    const int inside = (size_ - 1) % 16 + 1;
    return smaller(Lane::load_anywhere(from), Lane::load_anywhere(first_lanes(inside)));
  }

  /// Fills in the scores of `count` pairs of a token and a group, from number `first` on: pair p is
  /// group p mod groups of token p / groups.
  ///
  /// Lane by lane, the largest and the second of a group; then, of sixteen groups at a time, a lane
  /// for each, the largest and the second of those.
  template <bool top2>
  FDROUTE_INLINE void score(int first, int count) noexcept {
    using Rows = std::array<std::array<float, 16>, 16>;
    alignas(64) Rows best;
    alignas(64) Rows second;
    int token = first / groups_;
    int group = first % groups_;
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      const float* key = keys_.copy_of(token) + std::ptrdiff_t{size_} * group;
      Best<top2> lanes;
      int j = 0;
      for (; j + 16 < size_; j += 16) lanes.add(Lane::load_anywhere(key + j));
      lanes.add(last(key + j));
      lanes.first.store(best[i].data());
      if constexpr (top2) lanes.second.store(second[i].data());
      if (++group == groups_) {
        group = 0;
        ++token;
      }
    }
    alignas(64) std::array<float, 256> columns;
    const auto each_column = [&](const Rows& lanes, const auto& use) FDROUTE_INLINED {
      std::array<const float*, 16> rows;
      for (std::size_t i = 0; i < 16; ++i)
        rows[i] = lanes[i < static_cast<std::size_t>(count) ? i : 0].data();
      transpose_16(rows.data(), columns.data(), 16, Arch{});
      unrolled<16>([&](std::size_t i)
                       FDROUTE_INLINED { use(Lane::load(columns.data() + 16 * i)); });
    };
    Best<top2> all;
    each_column(best, [&](const Lane& x) FDROUTE_INLINED { all.add(x); });
    Lane result = all.first;
    if constexpr (top2) {
      constexpr float limit = std::numeric_limits<float>::max();
      each_column(second,
                  [&](const Lane& x) FDROUTE_INLINED { all.second = larger(all.second, x); });
      const Lane sum = smaller(larger(all.first + all.second, Lane(-limit)), Lane(limit));
      result = choose(all.second > Lane(masked), sum, all.first);
    }
    result.store_anywhere(scores_.data() + first);
  }

  /// The bits of a token's best groups; of equal ones the lower.
  FDROUTE_INLINE std::uint32_t kept_of(int t) const noexcept {
    const auto real = Ints<Arch>(groups_) > Ints<Arch>::load(lane_numbers.data());
    const float* score = scores_.data() + std::ptrdiff_t{groups_} * t;
    alignas(64) std::array<std::int32_t, 16> key;
    choose(real, ordered(Lane::load_anywhere(score)), Ints<Arch>(least_key)).store(key.data());
    const auto best = [&](const auto& place) FDROUTE_INLINED {
      using Place = std::remove_cvref_t<decltype(place)>;
      return static_cast<std::uint32_t>((Place(recipe_.kept) > place).bits());
    };
    return groups_ <= 8 ? best(places<8, Arch>(key.data())) : best(places<16, Arch>(key.data()));
  }

  FDROUTE_INLINE void mask(float* key) const noexcept {
    const Lane value(recipe_.masked);
    const auto masked_at = [&](int j) FDROUTE_INLINED {
      const Lane x = Lane::load_anywhere(key + j);
      return choose(x > Lane(masked), value, Lane(masked));
    };
    int j = 0;
    for (; j + 16 <= size_; j += 16) masked_at(j).store_anywhere(key + j);
    if (j < size_) masked_at(j).store_first(size_ - j, key + j);
  }

  TokenBlock& keys_;
  const KeyRecipe& recipe_;
  int groups_;
  int size_;
  alignas(64)
      std::array<float, std::size_t{TokenBlock::max_tokens} * KeyRecipe::most_groups + 15> scores_;
};

template <class Arch>
FDROUTE_KERNEL void limit_groups(TokenBlock& keys, const KeyRecipe& recipe) noexcept {
  Groups<Arch>(keys, recipe).limit();
}

/// Fills in rows and ordinary of a block of keys, by a recipe that has_kernel(). `ordinary` may
/// also hold for a row without any finite key.
template <class Arch>
void find_keys(const TokenBlock& logits, const KeyRecipe& recipe, TokenBlock& keys) noexcept {
  if (recipe.sigmoid) {
    find_sigmoid_keys<Arch>(logits, recipe.bias, keys);
  } else {
    for (int t = 0; t < logits.tokens; ++t)
      std::copy_n(logits.rows[static_cast<std::size_t>(t)], logits.stride_64, keys.copy_of(t));
  }
  keys.ordinary = logits.ordinary;
  if (recipe.kept < recipe.groups) limit_groups<Arch>(keys, recipe);
  for (int t = 0; t < logits.tokens; ++t) keys.rows[static_cast<std::size_t>(t)] = keys.copy_of(t);
}

}  // namespace fdroute::inline v0::detail
