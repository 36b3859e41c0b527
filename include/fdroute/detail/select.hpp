#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "fdroute/config.hpp"
#include "fdroute/detail/padded_row.hpp"

namespace fdroute::inline v0::detail {

/// A set of experts, one bit each: expert j is bit j % 64 of word j / 64.
using ExpertSet = std::array<std::uint64_t, max_experts / 64>;

/// The experts with values >= threshold, and their number. `x` is -inf after its end, up to a
/// multiple of 64; a threshold of -inf is not allowed.
template <class Arch>
FDROUTE_INLINE int at_least(const float* x, int experts, float threshold, ExpertSet& set) noexcept {
  const Floats<Arch> t(threshold);
  int count = 0;
  for (int i = 0; i < experts; i += 64) {
    const float* word = x + i;
    std::uint64_t bits = 0;
    unrolled<4>([&](std::size_t part) {
      const auto passes = Floats<Arch>::load(word + 16 * part) >= t;
      bits |= std::uint64_t{passes.bits()} << (16 * part);
    });
    set[static_cast<std::size_t>(i) / 64] = bits;
    count += std::popcount(bits);
  }
  return count;
}

/// A number that at least k of an ordinary row's elements reach, k <= 16, and few more do: the k-th
/// largest of the 16 lanes' largest elements; -inf if fewer than k lanes hold a finite one.
template <class Arch>
FDROUTE_INLINE float reached_by(const PaddedRow<Arch>& row, int k) noexcept {
  using Lane = Floats<Arch>;
  Lane lanes = Lane::load(row.x);
  for (int i = 16; i < row.padded; i += 16) lanes = larger(lanes, Lane::load(row.x + i));
  alignas(64) float lane[16];
  lanes.store(lane);
  // reached_j = the number of lanes >= lane j; the answer is the largest lane with reached_j >= k.
  Lane reached(0.0F);
  unrolled<16>([&](std::size_t i) {
    reached = reached + choose(Lane(lane[i]) >= lanes, Lane(1.0F), Lane(0.0F));
  });
  const Lane none(-std::numeric_limits<float>::infinity());
  return largest(choose(reached >= Lane(static_cast<float>(k)), lanes, none));
}

/// Some experts of a row with their logits, in ascending order of id.
struct Candidates {
  static constexpr int limit = 128;

  // compress() writes whole vectors.
  alignas(64) std::array<float, limit + 16> logits;
  alignas(64) std::array<std::int32_t, limit + 16> ids;
  int count = 0;
};

/// Lists the set's experts; their number must not exceed Candidates::limit.
template <class Arch>
FDROUTE_INLINE void list(const ExpertSet& set, const PaddedRow<Arch>& row,
                         Candidates& out) noexcept {
  out.count = 0;
  for (int i = 0; i < row.padded; i += 16) {
    const auto bits =
        static_cast<std::uint32_t>(set[static_cast<std::size_t>(i) / 64] >> (i % 64)) & 0xFFFFU;
    compress(bits, i, row.x + i, out.ids.data() + out.count, out.logits.data() + out.count, Arch{});
    out.count += std::popcount(bits);
  }
}

/// Writes the candidates' ids in order of rank: larger logits first, equal ones in the order of
/// their ids. A rank is not sorted for but counted: it is the number of candidates that are larger,
/// or as large and earlier.
template <class Arch>
FDROUTE_INLINE void rank(Candidates& candidates, std::int32_t* ranked) noexcept {
  using Lane = Floats<Arch>;
  const int count = candidates.count;
  const float* logits = candidates.logits.data();
  Lane(-std::numeric_limits<float>::infinity()).store_anywhere(candidates.logits.data() + count);
  for (int i = 0; i < count; ++i) {
    const Lane logit(logits[i]);
    int rank = 0;
    for (int g = 0; g < count; g += 16) {
      const Lane others = Lane::load(logits + g);
      const std::uint32_t earlier = i - g >= 16 ? 0xFFFFU : i > g ? (1U << (i - g)) - 1U : 0U;
      rank += std::popcount((others > logit).bits() | ((others >= logit).bits() & earlier));
    }
    ranked[rank] = candidates.ids[static_cast<std::size_t>(i)];
  }
}

}  // namespace fdroute::inline v0::detail
