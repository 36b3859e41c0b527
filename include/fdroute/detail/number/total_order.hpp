#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>

#include "fdroute/ties.hpp"

namespace fdroute::inline v0::detail {

/// The library's order of floats, as integers: NaN < -inf < ... < -0 = +0 < ... < +inf. Neighbours
/// differ by 1, and ordered(-x) = -ordered(x). By integer operations alone: a mode that flushes
/// subnormal numbers to zero does not change it.
constexpr std::int32_t ordered(float x) noexcept {
  const auto bits = std::bit_cast<std::int32_t>(x);
  const std::int32_t magnitude = bits & 0x7FFF'FFFF;
  if (magnitude > 0x7F80'0000) return std::numeric_limits<std::int32_t>::min();
  return bits < 0 ? -magnitude : magnitude;
}

/// The inverse of ordered(), for anything but NaN; of 0 it is +0.
constexpr float from_ordered(std::int32_t value) noexcept {
  const auto bits = static_cast<std::uint32_t>(value);
  return std::bit_cast<float>(value >= 0 ? bits : 0x8000'0000U - bits);
}

/// Writes the indices of the `ranking.size()` largest keys in the library's total order: larger key
/// first, equal keys by `ties`, NaN last. `scratch` is as long as `keys`.
inline void rank_largest(std::span<const float> keys, TieOrder ties,
                         std::span<std::uint64_t> scratch,
                         std::span<std::int32_t> ranking) noexcept {
  const std::uint32_t flip = ties == TieOrder::lowest_index ? ~0U : 0U;
  for (std::size_t j = 0; j < keys.size(); ++j) {
    const std::uint32_t index = static_cast<std::uint32_t>(j) ^ flip;
    // As unsigned numbers, integers keep their order when the sign is flipped.
    const std::uint32_t key = static_cast<std::uint32_t>(ordered(keys[j])) ^ 0x8000'0000U;
    scratch[j] = (std::uint64_t{key} << 32) | index;
  }
  const auto middle = scratch.begin() + static_cast<std::ptrdiff_t>(ranking.size());
  std::partial_sort(scratch.begin(), middle, scratch.end(), std::greater<>{});
  for (std::size_t i = 0; i < ranking.size(); ++i)
    ranking[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(scratch[i]) ^ flip);
}

/// Reorders `ranking` by ascending p-value of the experts that it holds; experts of equal p-values
/// keep their order. An insertion sort: stable without memory of its own, and fast where the keys'
/// order is nearly that of the p-values.
inline void rank_by_p(std::span<const double> p_of_expert,
                      std::span<std::int32_t> ranking) noexcept {
  const auto p = [&](std::int32_t expert) { return p_of_expert[static_cast<std::size_t>(expert)]; };
  for (std::size_t i = 1; i < ranking.size(); ++i) {
    const std::int32_t expert = ranking[i];
    std::size_t place = i;
    for (; place > 0 && p(ranking[place - 1]) > p(expert); --place)
      ranking[place] = ranking[place - 1];
    ranking[place] = expert;
  }
}

}  // namespace fdroute::inline v0::detail
