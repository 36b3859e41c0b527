#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "fdroute/bounds.hpp"
#include "fdroute/detail/block/scores.hpp"
#include "fdroute/detail/block/sets.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/rule/critical_scores.hpp"

namespace fdroute::inline v0::detail {

/// Fills in `set_size`, `sets` and `count`, from critical scores kernel_table().
template <class Arch>
FDROUTE_KERNEL void count_by_critical_scores(TokenBlock& block, const float* critical,
                                             bool step_down, MapKind kind,
                                             ExpertBounds bounds) noexcept {
  const float* const next = next_thresholds(critical, step_down);
  const int stride = block.stride_64;
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
      settled[t] = next_count(next, block.set_size[t],
                              [&](float threshold) FDROUTE_INLINED { return reach(t, threshold); });
    };
    const auto tokens = static_cast<std::size_t>(block.tokens);
    block.set_size.fill(first_count(step_down, block.experts));
    // A step waits for the one before, but not for other tokens. The first four settle most
    // tokens; how many more one needs is unpredictable, and a misprediction dearer than some steps.
    for (int round = 0; round < 4; ++round) {
      for (std::size_t t = 0; t < tokens; ++t) step(t);
    }
    for (std::size_t t = 0; t < tokens; ++t) {
      while (!settled[t]) step(t);
      if (block.set_size[t] == 0 && !any_finite<Arch>(block.rows[t], stride))
        block.ordinary[t] = false;
      block.count[t] = std::min(bounds(block.set_size[t]), block.experts);
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
