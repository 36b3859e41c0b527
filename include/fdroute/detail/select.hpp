#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "fdroute/bounds.hpp"
#include "fdroute/detail/critical_scores.hpp"
#include "fdroute/detail/token_block.hpp"

namespace fdroute::inline v0::detail {

// A set of experts has a bit for each: expert j is bit j % 64 of word j / 64.

/// The ones among 64 values that are >= threshold, and their number.
template <class Arch>
FDROUTE_INLINE int at_least_of_64(const float* x, float threshold, std::uint64_t& set) noexcept {
  set = (Floats<Arch, 64>(threshold) <= Floats<Arch, 64>::load_anywhere(x)).bits();
  return std::popcount(set);
}

/// The experts with values >= threshold, and their number. `x` is `stride` long, a multiple of 64,
/// and -inf after its end; a threshold of -inf is not allowed.
template <class Arch>
FDROUTE_INLINE int at_least(const float* x, int stride, float threshold,
                            std::uint64_t* set) noexcept {
  int count = 0;
  for (int i = 0; i < stride; i += 64)
    count += at_least_of_64<Arch>(x + i, threshold, set[i / 64]);
  return count;
}

template <class Arch>
FDROUTE_INLINE bool any_finite(const float* x, int stride) noexcept {
  std::array<std::uint64_t, max_experts / 64> set;
  return at_least<Arch>(x, stride, std::numeric_limits<float>::lowest(), set.data()) > 0;
}

// ---- By critical scores
// ------------------------------------------------------------------------------

/// Fills in `passing`, `sets` and `count`, from critical scores with_ends().
template <class Arch, bool step_down>
FDROUTE_KERNEL void count_passing(TokenBlock& block, const float* critical, MapKind kind,
                                  ExpertBounds bounds) noexcept {
  const int stride = block.stride;
  TokenBlock::PerToken<const float*> scores = block.rows;
  if (kind != MapKind::identity) {
    for (int t = 0; t < block.tokens; ++t) {
      const auto at = static_cast<std::size_t>(t);
      float* to = block.scores.data() + t * stride;
      for (int i = 0; i < stride; i += 64) {
        score(Floats<Arch, 64>::load_anywhere(block.rows[at] + i), block.map[at], kind)
            .store(to + i);
      }
      scores[at] = to;
    }
  }
  const auto count = [&](const auto& reach) FDROUTE_INLINED {
    TokenBlock::PerToken<bool> settled;
    const auto step = [&](std::size_t t) FDROUTE_INLINED {
      settled[t] = step_to_count<step_down>(
          critical, block.passing[t],
          [&](float threshold) FDROUTE_INLINED { return reach(t, threshold); });
    };
    const auto tokens = static_cast<std::size_t>(block.tokens);
    block.passing.fill(first_count<step_down>(block.experts));
    // A step waits for the one before, but not for other tokens. The first three settle most
    // tokens; how many more one needs is unpredictable, and a misprediction dearer than some steps.
    for (int round = 0; round < 3; ++round) {
      for (std::size_t t = 0; t < tokens; ++t) step(t);
    }
    for (std::size_t t = 0; t < tokens; ++t) {
      while (!settled[t]) step(t);
      if (block.passing[t] == 0 && !any_finite<Arch>(block.rows[t], stride))
        block.ordinary[t] = false;
      block.count[t] = std::min(bounds(block.passing[t]), block.experts);
    }
  };
  if (stride == 64) {
    count([&](std::size_t t, float threshold) FDROUTE_INLINED {
      return at_least_of_64<Arch>(scores[t], threshold, block.sets[t]);
    });
  } else {
    count([&](std::size_t t, float threshold) FDROUTE_INLINED {
      return at_least<Arch>(scores[t], stride, threshold, block.set_of(static_cast<int>(t)));
    });
  }
}

// ---- The best experts
// ----------------------------------------------------------------------------

/// The places of 16 keys in descending order, equal ones in the order of their lanes. A place is not
/// sorted for but counted: it is how many are larger, or as large and earlier. No key may be the
/// smallest integer.
template <class Arch>
FDROUTE_INLINE Ints<Arch> places(const Ints<Arch>& keys) noexcept {
  // From 15 - i on: 0 for lanes up to i, -1 for the later ones, which lose to an equal.
  alignas(64) static constexpr std::array<std::int32_t, 31> handicaps = [] {
    std::array<std::int32_t, 31> table{};
    std::fill(table.begin() + 16, table.end(), -1);
    return table;
  }();
  alignas(64) std::array<std::int32_t, 16> key;
  keys.store(key.data());
  in_memory(key);
  Ints<Arch> places(0);
  unrolled<16>([&](std::size_t i) FDROUTE_INLINED {
    const auto handicap = Ints<Arch>::load_anywhere(handicaps.data() + 15 - i);
    places = count_where(Ints<Arch>(key[i]) > keys + handicap, places);
  });
  return places;
}

/// A number that at least k of an ordinary row's elements reach, k <= 16, and few more do: the k-th
/// largest of the 16 lanes' largest elements; -inf if fewer than k lanes hold a finite one.
template <class Arch>
FDROUTE_INLINE float reached_by(const float* x, int padded, int k) noexcept {
  Floats<Arch> lanes = Floats<Arch>::load_anywhere(x);
  for (int i = 16; i < padded; i += 16) lanes = larger(lanes, Floats<Arch>::load_anywhere(x + i));
  alignas(64) std::array<float, 16> lane;
  lanes.store(lane.data());
  const std::uint64_t kth = (places(ordered(lanes)) == Ints<Arch>(k - 1)).bits();
  return in_memory(lane)[static_cast<std::size_t>(std::countr_zero(kth))];
}

/// Makes token t's set hold its n best experts, n >= 1, and not many more. Returns the number of
/// experts in it; 0 if there is no such set.
template <class Arch>
FDROUTE_INLINE int set_of_best(TokenBlock& block, int t, int n) noexcept {
  constexpr int many = 128;
  const auto at = static_cast<std::size_t>(t);
  const int passing = block.passing[at];
  if (n <= passing && passing <= (n <= 16 ? 32 : many)) return passing;
  std::uint64_t* set = block.set_of(t);
  if (n <= 16) {
    const float reached = reached_by<Arch>(block.rows[at], block.padded, n);
    if (reached == -std::numeric_limits<float>::infinity()) return 0;
    const int members = at_least<Arch>(block.rows[at], block.stride, reached, set);
    return members <= many ? members : 0;
  }
  if (block.experts > many) return 0;
  for (int j = 0; j < block.experts; j += 64)
    set[j / 64] = ~std::uint64_t{0} >> std::max(0, j + 64 - block.experts);
  return block.experts;
}

/// Writes the set's experts with their logits, in order of their ids, and 16 places with logit
/// -inf and id 0 after them.
template <class Arch>
FDROUTE_INLINE void list(const TokenBlock& block, const float* row, const std::uint64_t* set,
                         std::int32_t* ids, float* logits) noexcept {
  int n = 0;
  for (int i = 0; i < block.padded; i += 16) {
    const auto bits = static_cast<std::uint32_t>(set[i / 64] >> (i % 64)) & 0xFFFFU;
    compress(bits, i, row + i, ids + n, logits + n, Arch{});
    n += std::popcount(bits);
  }
  Floats<Arch>(-std::numeric_limits<float>::infinity()).store_anywhere(logits + n);
  Ints<Arch>(0).store_anywhere(ids + n);
}

/// The same for a row of 64: writes the ids of the set's 16 first experts, which may be fewer; ids
/// after the last one may be any. No step depends on the number.
FDROUTE_INLINE void list_16_of_64(std::uint64_t set, std::int32_t* ids) noexcept {
  constexpr std::uint64_t last = std::uint64_t{1} << 63;
  unrolled<16>([&](std::size_t i) FDROUTE_INLINED {
    ids[i] = std::countr_zero(set | last);
    set &= set - 1;
  });
}

/// Writes the ids of 16 candidates in order of their keys: larger ones first, equal ones in the
/// order of the ids.
template <class Arch>
FDROUTE_INLINE void rank_16(const Ints<Arch>& keys, const std::int32_t* ids,
                            std::int32_t* ranked) noexcept {
  alignas(64) std::array<std::int32_t, 16> place;
  places(keys).store(place.data());
  in_memory(place);
  unrolled<16>([&](std::size_t i) FDROUTE_INLINED { ranked[place[i]] = ids[i]; });
}

/// The same for `count` candidates, followed by 16 places of logit -inf.
template <class Arch>
FDROUTE_INLINE void rank_many(const float* logits, const std::int32_t* ids, int count,
                              std::int32_t* ranked) noexcept {
  using Lane = Floats<Arch>;
  for (int i = 0; i < count; ++i) {
    const Lane logit(logits[i]);
    int rank = 0;
    for (int g = 0; g < count; g += 16) {
      const Lane others = Lane::load_anywhere(logits + g);
      const std::uint64_t earlier = i - g >= 16 ? 0xFFFFU : i > g ? (1U << (i - g)) - 1U : 0U;
      rank += std::popcount((others > logit).bits() | ((others >= logit).bits() & earlier));
    }
    ranked[rank] = ids[i];
  }
}

/// Fills in `candidates` and, where they are few, `ranked`, of tokens that are not written yet: at
/// least the `count` best experts, and at least one. Where there is no set of them, candidates is 0.
template <class Arch>
FDROUTE_KERNEL void rank_best(TokenBlock& block) noexcept {
  const bool short_rows = block.stride == 64;
  for (int t = 0; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    block.candidates[at] = 0;
    if (!block.ordinary[at] || block.written[at]) continue;
    block.candidates[at] = set_of_best<Arch>(block, t, std::max(block.count[at], 1));
  }
  for (int t = 0; t < block.tokens; ++t) {
    if (!block.few_candidates(t)) continue;
    if (short_rows) {
      list_16_of_64(*block.set_of(t), block.candidate_ids_of(t));
    } else {
      list<Arch>(block, block.rows[static_cast<std::size_t>(t)], block.set_of(t),
                 block.candidate_ids_of(t), block.candidate_logits_of(t));
    }
  }
  alignas(64) static constexpr std::array<std::int32_t, 16> numbers = {0, 1, 2,  3,  4,  5,  6,  7,
                                                                       8, 9, 10, 11, 12, 13, 14, 15};
  for (int t = 0; t < block.tokens; ++t) {
    if (!block.few_candidates(t)) continue;
    const auto at = static_cast<std::size_t>(t);
    const std::int32_t* ids = block.candidate_ids_of(t);
    Ints<Arch> keys;
    if (short_rows) {
      const auto is_candidate = Ints<Arch>(block.candidates[at]) > Ints<Arch>::load(numbers.data());
      keys = choose(is_candidate, ordered(pick(block.rows[at], Ints<Arch>::load(ids))),
                    Ints<Arch>(std::numeric_limits<std::int32_t>::min() + 1));
    } else {
      keys = ordered(Floats<Arch>::load(block.candidate_logits_of(t)));
    }
    rank_16(keys, ids, block.ranked_of(t));
  }
}

/// The best experts of one token, of more than TokenBlock::few candidates.
class ManyRanked {
 public:
  static constexpr std::size_t limit = 128;

  template <class Arch>
  FDROUTE_KERNEL const std::int32_t* rank(const TokenBlock& block, int t) noexcept {
    const auto at = static_cast<std::size_t>(t);
    list<Arch>(block, block.rows[at], block.sets.data() + t * (block.stride / 64), ids_.data(),
               logits_.data());
    rank_many<Arch>(logits_.data(), ids_.data(), block.candidates[at], ranked_.data());
    return ranked_.data();
  }

 private:
  alignas(64) std::array<float, limit + 16> logits_;
  alignas(64) std::array<std::int32_t, limit + 16> ids_;
  std::array<std::int32_t, limit> ranked_;
};

}  // namespace fdroute::inline v0::detail
