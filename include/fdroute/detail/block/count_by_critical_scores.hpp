#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "fdroute/bounds.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/rule/critical_scores.hpp"

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
      float* to = block.scores_of(t);
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
      settled[t] = step_to_count<step_down>(critical, block.passing[t],
                                            [&](float threshold)
                                                FDROUTE_INLINED { return reach(t, threshold); });
    };
    const auto tokens = static_cast<std::size_t>(block.tokens);
    block.passing.fill(first_count<step_down>(block.experts));
    // A step waits for the one before, but not for other tokens. The first four settle most
    // tokens; how many more one needs is unpredictable, and a misprediction dearer than some steps.
    for (int round = 0; round < 4; ++round) {
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

}  // namespace fdroute::inline v0::detail
