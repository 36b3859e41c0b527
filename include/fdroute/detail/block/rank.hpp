#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "fdroute/detail/block/sets.hpp"
#include "fdroute/detail/block/sort.hpp"
#include "fdroute/detail/block/token_block.hpp"

namespace fdroute::inline v0::detail {

/// The numbers of some of a block's tokens. What is done with all tokens of a kind is done in a
/// loop of its own: a branch on the kind, token by token, would often be mispredicted.
class TokenGroup {
 public:
  FDROUTE_INLINE void add_if(bool belongs, int token) noexcept {
    tokens_[static_cast<std::size_t>(size_)] = token;
    size_ += belongs ? 1 : 0;
  }

  FDROUTE_INLINE int size() const noexcept { return size_; }

  template <class Body>
  FDROUTE_INLINE void each(const Body& body) const noexcept {
    for (int i = 0; i < size_; ++i) body(tokens_[static_cast<std::size_t>(i)]);
  }

 private:
  std::array<int, TokenBlock::max_tokens + 1> tokens_;
  int size_ = 0;
};

/// The key of what ranks after everything else.
inline constexpr std::int32_t least_key = std::numeric_limits<std::int32_t>::min() + 1;

/// The places of the first n of some keys among these in descending order, equal ones in the order
/// of their lanes; n is 8 or 16. A place is not sorted for but counted: it is how many are larger,
/// or as large and earlier. No key may be the smallest integer.
template <std::size_t n, class Arch, std::size_t lanes = std::max(n, Ints<Arch>::width)>
FDROUTE_INLINE Lanes<std::int32_t, Arch, lanes> places(const std::int32_t* keys) noexcept {
  using Lane = Lanes<std::int32_t, Arch, lanes>;
  // Row i: 0 for lanes up to i, -1 for the later ones, which lose to an equal.
  alignas(64) static constexpr auto handicaps = [] {
    std::array<std::array<std::int32_t, 16>, n> table{};
    for (std::size_t i = 0; i < n; ++i) std::fill(table[i].begin() + i + 1, table[i].end(), -1);
    return table;
  }();
  const Lane all = Lane::load(keys);
  Lane places(0);
  unrolled<n>([&](std::size_t i) FDROUTE_INLINED {
    places = count_where(Lane(keys[i]) > all + Lane::load(handicaps[i].data()), places);
  });
  return places;
}

/// The k-th largest of 16 numbers, aligned to 64 bytes; k >= 1.
template <class Arch>
FDROUTE_KERNEL float kth_largest(const std::array<float, 16>& x, int k) noexcept {
  alignas(64) std::array<std::int32_t, 16> keys;
  ordered(Floats<Arch>::load(x.data())).store(keys.data());
  const auto is_kth = places<16, Arch>(keys.data()) == Ints<Arch>(k - 1);
  return x[static_cast<std::size_t>(std::countr_zero(is_kth.bits()))];
}

/// Where the first n of some keys stand in descending order; n is 8 or 16.
template <class Arch, std::size_t n>
class Order {
  static constexpr std::size_t lanes = std::max(n, Ints<Arch>::width);
  template <class T>
  using Some = Lanes<T, Arch, lanes>;
  static constexpr bool in_registers = requires(const Some<std::int32_t>& x) {
    inverse(x.part, Arch{});
  };

 public:
  FDROUTE_INLINE explicit Order(const std::int32_t* keys) noexcept {
    const auto place = places<n, Arch>(keys);
    if constexpr (in_registers) {
      lanes_.part = inverse(place.part, Arch{});
    } else {
      place.store(places_.data());
    }
  }

  /// Moves n numbers, or more, to their places. Both arrays are aligned to 64 bytes.
  template <class T>
  FDROUTE_INLINE void move(const std::array<T, 16>& from, std::array<T, 16>& to) const noexcept {
    if constexpr (in_registers) {
      Some<std::int32_t> x;
      const auto all = Some<T>::load(from.data());
      for (std::size_t i = 0; i < x.parts; ++i) x.part[i] = cast_bits<std::int32_t>(all.part[i]);
      x.part = permute(x.part, lanes_.part, Arch{});
      Some<T>::generate([&](std::size_t i) FDROUTE_INLINED {
        return cast_bits<T>(x.part[i]);
      }).store(to.data());
    } else {
      unrolled<n>([&](std::size_t i)
                      FDROUTE_INLINED { to[static_cast<std::size_t>(places_[i])] = from[i]; });
    }
  }

 private:
  struct Nothing {};
  // The lane of every rank, or, in memory, the place of every lane.
  std::conditional_t<in_registers, Some<std::int32_t>, Nothing> lanes_;
  alignas(64) std::conditional_t<in_registers, Nothing, std::array<std::int32_t, 16>> places_;
};

/// Makes the sets of these tokens hold their `count` best experts, at least one and at most 16, and
/// few more, and fills in `candidates`: how many they hold, or 0 if fewer than `count` are finite.
///
/// They are the experts that reach the k-th largest of the 16 lanes' largest logits, since k lanes
/// do.
template <class Arch>
FDROUTE_INLINE void find_best(TokenBlock& block, const TokenGroup& tokens) noexcept {
  alignas(64) TokenBlock::PerToken<std::array<float, 16>> lanes;
  TokenBlock::PerToken<float> reached;
  tokens.each([&](int t) FDROUTE_INLINED {
    const auto at = static_cast<std::size_t>(t);
    const float* x = block.rows[at];
    Floats<Arch> most = Floats<Arch>::load_anywhere(x);
    for (int i = 16; i < block.padded_16; i += 16)
      most = larger(most, Floats<Arch>::load_anywhere(x + i));
    most.store(lanes[at].data());
  });
  const auto rank_of = [&](int t) FDROUTE_INLINED {
    return static_cast<std::size_t>(std::max(block.count[static_cast<std::size_t>(t)], 1) - 1);
  };
  if (tokens.size() > 2) {
    alignas(64) std::array<float, 256> columns;
    std::array<const float*, 16> rows;
    rows.fill(lanes[0].data());
    tokens.each([&](int t) FDROUTE_INLINED {
      rows[static_cast<std::size_t>(t)] = lanes[static_cast<std::size_t>(t)].data();
    });
    transpose_16(rows.data(), columns.data(), 16, Arch{});
    sort_columns_of_16<Arch>(columns.data());
    tokens.each([&](int t) FDROUTE_INLINED {
      reached[static_cast<std::size_t>(t)] = columns[16 * rank_of(t) + static_cast<std::size_t>(t)];
    });
  } else {
    tokens.each([&](int t) FDROUTE_INLINED {
      const auto at = static_cast<std::size_t>(t);
      reached[at] = kth_largest<Arch>(lanes[at], std::max(block.count[at], 1));
    });
  }
  tokens.each([&](int t) FDROUTE_INLINED {
    const auto at = static_cast<std::size_t>(t);
    block.candidates[at] =
        at_least<Arch>(block.rows[at], block.stride_64, reached[at], block.set_of(t));
    if (reached[at] == -std::numeric_limits<float>::infinity()) block.candidates[at] = 0;
  });
}

/// Writes the ids of the set's experts, in order, and 16 places of id 0 after them.
template <class Arch>
FDROUTE_INLINE void list(const TokenBlock& block, int t, std::int32_t* ids) noexcept {
  const std::uint64_t* set = block.set_of(t);
  int n = 0;
  for (int i = 0; i < block.padded_16; i += 16) {
    const auto bits = static_cast<std::uint32_t>(set[i / 64] >> (i % 64)) & 0xFFFFU;
    compress_ids(bits, i, ids + n, Arch{});
    n += std::popcount(bits);
  }
  Ints<Arch>(0).store_anywhere(ids + n);
}

/// list() for a row of 64: writes the ids of the set's first n experts, without a branch. If the
/// set has fewer, the remaining ids are arbitrary.
template <std::size_t n, class Arch>
FDROUTE_INLINE void list_of_64(TokenBlock& block, int t) noexcept {
  constexpr std::uint64_t last = std::uint64_t{1} << 63;
  std::uint64_t set = *block.set_of(t);
  std::int32_t* ids = block.candidate_ids_of(t);
  unrolled<n>([&](std::size_t i) FDROUTE_INLINED {
    ids[i] = std::countr_zero(set | last);
    set &= set - 1;
  });
}

/// The keys of the first n of a token's candidates; the least after the last one.
template <std::size_t n, class Arch, std::size_t lanes = std::max(n, Ints<Arch>::width)>
FDROUTE_INLINE void find_keys(TokenBlock& block, int t) noexcept {
  using Lane = Lanes<std::int32_t, Arch, lanes>;
  const auto at = static_cast<std::size_t>(t);
  const auto is_candidate = Lane(block.candidates[at]) > Lane::load(lane_numbers.data());
  const auto ids = Lane::load(block.candidate_ids_of(t));
  const float* row = block.rows[at];
  const auto keys = ordered(block.stride_64 == 64 ? pick(row, ids) : gather(row, ids));
  choose(is_candidate, keys, Lane(least_key)).store(block.candidate_keys_of(t));
}

/// Ranks the first n that are listed, by their places, which stand where the keys were.
template <std::size_t n>
FDROUTE_INLINE void rank_by_places(TokenBlock& block, int t) noexcept {
  const std::int32_t* place = block.candidate_keys_of(t);
  const std::int32_t* ids = block.candidate_ids_of(t);
  std::int32_t* ranked = block.ranked_of(t);
  unrolled<n>([&](std::size_t i) FDROUTE_INLINED { ranked[place[i]] = ids[i]; });
}

/// Ranks the candidates of these tokens, at most n, 8 or 16, each.
template <std::size_t n, class Arch>
FDROUTE_INLINE void rank_few(TokenBlock& block, const TokenGroup& tokens) noexcept {
  if (block.stride_64 == 64) {
    tokens.each([&](int t) FDROUTE_INLINED { list_of_64<n, Arch>(block, t); });
  } else {
    tokens.each([&](int t) FDROUTE_INLINED { list<Arch>(block, t, block.candidate_ids_of(t)); });
  }
  tokens.each([&](int t) FDROUTE_INLINED { find_keys<n, Arch>(block, t); });
  tokens.each([&](int t) FDROUTE_INLINED {
    std::int32_t* keys = block.candidate_keys_of(t);
    places<n, Arch>(keys).store(keys);
  });
  tokens.each([&](int t) FDROUTE_INLINED { rank_by_places<n>(block, t); });
}

/// Ranks the candidates of one token at a time, of up to `limit`.
class ManyRanked {
 public:
  static constexpr int limit = 128;

  /// The ids of any token's candidates by rank; valid until the next call.
  template <class Arch>
  FDROUTE_INLINE const std::int32_t* ranked_of(const TokenBlock& block, int t) noexcept {
    const bool is_ranked = block.candidates[static_cast<std::size_t>(t)] <= TokenBlock::most_listed;
    return is_ranked ? block.ranked_of(t) : rank<Arch>(block, t);
  }

 private:
  template <class Arch>
  FDROUTE_KERNEL const std::int32_t* rank(const TokenBlock& block, int t) noexcept {
    const int count = block.candidates[static_cast<std::size_t>(t)];
    list<Arch>(block, t, ids_.data());
    const float* row = block.rows[static_cast<std::size_t>(t)];
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); i += 16)
      ordered(gather(row, Ints<Arch>::load(ids_.data() + i))).store(keys_.data() + i);
    Ints<Arch>(least_key).store_anywhere(keys_.data() + count);
    for (int i = 0; i < count; ++i) {
      const Ints<Arch> key(keys_[static_cast<std::size_t>(i)]);
      int place = 0;
      for (int g = 0; g < count; g += 16) {
        const auto others = Ints<Arch>::load(keys_.data() + g);
        const std::uint64_t earlier = i - g >= 16 ? 0xFFFFU : i > g ? (1U << (i - g)) - 1U : 0U;
        place += std::popcount((others > key).bits() | ((others == key).bits() & earlier));
      }
      ranked_[static_cast<std::size_t>(place)] = ids_[static_cast<std::size_t>(i)];
    }
    return ranked_.data();
  }

  alignas(64) std::array<std::int32_t, limit + 16> keys_;
  alignas(64) std::array<std::int32_t, limit + 16> ids_;  // list() writes whole vectors
  alignas(64) std::array<std::int32_t, limit> ranked_;
};

/// Fills in `candidates` and, where they are at most most_listed, `ranked`: at least the `count`
/// best experts, and at least one. Where there is no set of them, candidates is 0; so it is, if
/// `sets_suffice`, of tokens whose selected experts are their set.
template <class Arch>
FDROUTE_KERNEL void rank_best(TokenBlock& block, bool sets_suffice) noexcept {
  constexpr int many = ManyRanked::limit;
  TokenGroup to_find;
  for (int t = 0; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    const int size = block.set_size[at];
    const int n = std::max(block.count[at], 1);
    const bool open = block.ordinary[at] && !(sets_suffice && block.selects_set(t));
    // The set may hold the best, and not much more than them.
    const bool found = n <= size && size <= (n <= 16 ? 32 : many);
    block.candidates[at] = open && found ? size : 0;
    const bool all = block.experts <= TokenBlock::most_listed || (n > 16 && block.experts <= many);
    to_find.add_if(open && !found && !all && n <= 16, t);
    if (open && !found && all) {
      // All but the masked experts, whose order the definition decides.
      const int finite = at_least<Arch>(block.rows[at], block.stride_64,
                                        std::numeric_limits<float>::lowest(), block.set_of(t));
      block.candidates[at] = finite >= n ? finite : 0;
    }
  }
  find_best<Arch>(block, to_find);
  TokenGroup up_to_8;
  TokenGroup up_to_16;
  for (int t = 0; t < block.tokens; ++t) {
    int& candidates = block.candidates[static_cast<std::size_t>(t)];
    if (candidates > many) candidates = 0;
    up_to_8.add_if(candidates > 0 && candidates <= 8, t);
    up_to_16.add_if(candidates > 8 && candidates <= TokenBlock::most_listed, t);
  }
  rank_few<8, Arch>(block, up_to_8);
  rank_few<16, Arch>(block, up_to_16);
}

}  // namespace fdroute::inline v0::detail
