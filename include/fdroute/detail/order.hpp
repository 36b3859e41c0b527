#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace fdroute::inline v0::detail {

/// Maps floats to unsigned integers that compare the same way: NaN < -inf < ... < +inf, -0 = +0.
constexpr std::uint32_t ordered_bits(float x) noexcept {
  if (x != x) return 0;
  const auto bits = std::bit_cast<std::uint32_t>(x + 0.0F);  // -0 becomes +0
  return (bits >> 31) != 0 ? ~bits : bits | 0x8000'0000U;
}

/// The inverse of ordered_bits, for anything but NaN.
constexpr float from_ordered_bits(std::uint32_t bits) noexcept {
  return std::bit_cast<float>((bits >> 31) != 0 ? bits & 0x7FFF'FFFFU : ~bits);
}

/// Writes the indices of the `ranking.size()` largest logits in the library's total order: larger
/// logit first, equal logits by lower index, NaN last. `keys` is scratch, as long as `logits`.
inline void rank_largest(std::span<const float> logits, std::span<std::uint64_t> keys,
                         std::span<std::int32_t> ranking) noexcept {
  for (std::size_t j = 0; j < logits.size(); ++j) {
    const auto reversed_index = ~static_cast<std::uint32_t>(j);
    keys[j] = (std::uint64_t{ordered_bits(logits[j])} << 32) | reversed_index;
  }
  const auto middle = keys.begin() + static_cast<std::ptrdiff_t>(ranking.size());
  std::partial_sort(keys.begin(), middle, keys.end(), std::greater<>{});
  for (std::size_t i = 0; i < ranking.size(); ++i)
    ranking[i] = static_cast<std::int32_t>(~static_cast<std::uint32_t>(keys[i]));
}

}  // namespace fdroute::inline v0::detail
