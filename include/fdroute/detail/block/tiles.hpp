#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/simd/lanes.hpp"

namespace fdroute::inline v0::detail {

/// Rows of a block whose logits lie token by token, logit j of token t at from[t + stride j], as
/// rows of experts, logit j at to[to_stride t + j]; `to` is aligned to 64 bytes, to_stride a
/// multiple of 16 and at least `experts`. Whatever stands after a row's end.
///
/// By tiles of 16 x 16: a line of the cache holds the logits of sixteen tokens, and is read once.
template <class Arch>
FDROUTE_KERNEL void load_tiles(const float* from, std::ptrdiff_t stride, int tokens, int experts,
                               float* to, std::ptrdiff_t to_stride) noexcept {
  alignas(64) std::array<std::array<float, 16>, 16> part;
  alignas(64) std::array<float, 256> turned;
  std::array<const float*, 16> rows;
  for (int j = 0; j < experts; j += 16) {
    for (int i = 0; i < 16; ++i) {
      const auto at = static_cast<std::size_t>(i);
      // Past the last expert, the last once more.
      const float* row = from + stride * std::min(j + i, experts - 1);
      rows[at] = row;
      if (tokens < 16) rows[at] = std::copy_n(row, tokens, part[at].begin()) - tokens;
    }
    if (tokens == 16) {
      transpose_16(rows.data(), to + j, to_stride, Arch{});
      continue;
    }
    transpose_16(rows.data(), turned.data(), 16, Arch{});
    for (int t = 0; t < tokens; ++t)
      std::copy_n(turned.begin() + 16 * t, 16, to + to_stride * t + j);
  }
}

}  // namespace fdroute::inline v0::detail
