#pragma once

#include <cstdint>

#include "fdroute/completion.hpp"
#include "fdroute/concepts.hpp"
#include "fdroute/detail/block/complete.hpp"
#include "fdroute/detail/block/gather.hpp"
#include "fdroute/detail/block/in_blocks.hpp"
#include "fdroute/detail/block/policy_kernels.hpp"
#include "fdroute/detail/block/route_block.hpp"
#include "fdroute/views.hpp"

// All tokens of a call, by a router without the types of its policies: compiled once for a form of
// logits and of output, however many routers a program has.

namespace fdroute::inline v0::detail {

/// Router::route().
template <class Arch, class E, class Logits, class View>
TokenStatus route_all(const E& execution, const ErasedRouter& router, Logits logits,
                      View out) noexcept {
  const auto route_block = [&](auto rows, View to) {
    return BlockRouter<Arch>::route(router, rows, to);
  };
  return route_blocks(execution, router.block_tokens(), router.capacity, logits, out,
                      [&](Logits rows, View to) {
                        if constexpr (is_batch<Logits>) {
                          return route_gathered(router, rows, to, route_block);
                        } else {
                          return route_block(rows, to);
                        }
                      });
}

/// Router::complete().
template <class Arch, class E, class Logits, class Id>
void complete_all(const E& execution, const ErasedRouter& router, Logits logits, Residency resident,
                  Completion completion, RoutingView<Id> routing) noexcept {
  complete_blocks(execution, router.block_tokens(), logits, resident, routing,
                  [&](Logits rows, Residency here, RoutingView<Id> to) {
                    const auto complete_rows = [&](auto block) {
                      BlockCompleter<Arch>::complete(router, block, here, completion, to);
                    };
                    if constexpr (is_batch<Logits>) {
                      complete_gathered(router.experts, rows, complete_rows);
                    } else {
                      complete_rows(rows);
                    }
                  });
}

}  // namespace fdroute::inline v0::detail
