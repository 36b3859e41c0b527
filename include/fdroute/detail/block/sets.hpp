#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/simd/lanes.hpp"
#include "fdroute/limits.hpp"

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
  for (int i = 0; i < stride; i += 64) count += at_least_of_64<Arch>(x + i, threshold, set[i / 64]);
  return count;
}

/// Whether any value is finite, where none is NaN or +inf; `x` as above.
template <class Arch>
FDROUTE_INLINE bool any_finite(const float* x, int stride) noexcept {
  std::array<std::uint64_t, max_experts / 64> set;
  return at_least<Arch>(x, stride, std::numeric_limits<float>::lowest(), set.data()) > 0;
}

/// Fills in `sets` and `set_size` from `count` and the token's logit of that rank, or its largest
/// if nothing counts: the experts that reach it, and their number; -1 where there is no such set.
template <class Arch>
FDROUTE_KERNEL void find_sets(TokenBlock& block,
                              const TokenBlock::PerToken<float>& reached) noexcept {
  for (int t = 0; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    int size = at_least<Arch>(block.rows[at], block.stride_64, reached[at], block.set_of(t));
    if (reached[at] == -std::numeric_limits<float>::infinity()) size = -1;
    if (block.count[at] == 0) {
      std::fill_n(block.set_of(t), block.stride_64 / 64, std::uint64_t{0});
      size = 0;
    }
    block.set_size[at] = size;
  }
}

}  // namespace fdroute::inline v0::detail
