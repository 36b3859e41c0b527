#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>

#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/execution.hpp"
#include "fdroute/views.hpp"

namespace fdroute::inline v0::detail {

/// Routes the tokens in blocks of `block`, at most TokenBlock::max_tokens, each by
/// route_block(logits, view).
template <Execution E, LogitsForm Logits, class View, class RouteBlock>
TokenStatus route_blocks(const E& execution, std::ptrdiff_t block, int, Logits logits, View out,
                         const RouteBlock& route_block) noexcept {
  if constexpr (std::same_as<E, Serial>) {
    if (logits.tokens == 1) return route_block(logits, out);  // without the division
  }
  return execution.for_each((logits.tokens + block - 1) / block, [&](std::ptrdiff_t i) {
    const std::ptrdiff_t first = i * block;
    const std::ptrdiff_t tokens = std::min(block, logits.tokens - first);
    return route_block(logits.slice(first, tokens), out.from(first));
  });
}

/// route_blocks() for CSR, where a token has at most `capacity` experts. route_block() numbers
/// places from those of its own view on, whose offsets[0] is 0.
///
/// A block's place follows from all blocks before it. Serially, it is known in time. Otherwise a
/// block is routed to where its padded form would stand, which is no earlier place, and moved when
/// all are there.
template <Execution E, LogitsForm Logits, class Id, class RouteBlock>
TokenStatus route_blocks(const E& execution, std::ptrdiff_t block, int capacity, Logits logits,
                         CsrView<Id> out, const RouteBlock& route_block) noexcept {
  constexpr bool in_order = std::same_as<E, Serial>;
  const auto tokens_from = [&](std::ptrdiff_t first) {
    return std::min(block, logits.tokens - first);
  };
  out.offsets[0] = 0;
  std::int64_t end = 0;  // of the blocks that are in place
  const auto append = [&](std::ptrdiff_t first, std::int64_t from) {
    std::int64_t* ends = out.offsets + first + 1;
    const std::ptrdiff_t tokens = tokens_from(first);
    const std::int64_t size = ends[tokens - 1];
    if (from != end) {
      std::copy_n(out.experts + from, size, out.experts + end);
      std::copy_n(out.weights + from, size, out.weights + end);
    }
    for (std::ptrdiff_t t = 0; t < tokens; ++t) ends[t] += end;
    end += size;
  };

  const TokenStatus status =
      execution.for_each((logits.tokens + block - 1) / block, [&](std::ptrdiff_t i) {
        const std::ptrdiff_t first = i * block;
        const std::ptrdiff_t tokens = tokens_from(first);
        const std::int64_t place = in_order ? end : first * capacity;
        // Not in out.offsets: this block's first is the last of the one before.
        std::array<std::int64_t, TokenBlock::max_tokens + 1> offsets;
        offsets[0] = 0;
        const TokenStatus of_block =
            route_block(logits.slice(first, tokens),
                        CsrView<Id>{offsets.data(), out.experts + place, out.weights + place,
                                    out.status == nullptr ? nullptr : out.status + first});
        std::copy_n(offsets.begin() + 1, tokens, out.offsets + first + 1);
        if constexpr (in_order) append(first, place);
        return of_block;
      });
  if constexpr (!in_order) {
    for (std::ptrdiff_t first = 0; first < logits.tokens; first += block)
      append(first, first * capacity);
  }
  return status;
}

}  // namespace fdroute::inline v0::detail
