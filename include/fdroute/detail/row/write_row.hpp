#pragma once

#include <algorithm>
#include <cstdint>

#include "fdroute/views.hpp"

namespace fdroute::inline v0::detail {

/// Completes the view's first token, of which `count` experts and weights are written. `best` is
/// the id of its largest key.
template <class Id>
void finish(RoutingView<Id> out, int count, Id best, TokenStatus status) noexcept {
  const Id padding = out.padding == Padding::minus_one ? Id(-1) : best;
  std::fill(out.experts + count, out.experts + out.capacity, padding);
  std::fill(out.weights + count, out.weights + out.capacity, 0.0F);
  *out.counts = count;
  if (out.status != nullptr) *out.status = status;
}

/// The same for a view whose counts, too, may be absent.
template <class View>
void finish(View out, int count, TokenStatus status) noexcept {
  if (out.counts != nullptr) *out.counts = count;
  if (out.status != nullptr) *out.status = status;
}

/// The same; the token starts at offsets[0].
template <class Id>
void finish(CsrView<Id> out, int count, TokenStatus status) noexcept {
  out.offsets[1] = out.offsets[0] + count;
  if (out.status != nullptr) *out.status = status;
}

}  // namespace fdroute::inline v0::detail
