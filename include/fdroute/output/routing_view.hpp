#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "fdroute/limits.hpp"
#include "fdroute/output/row.hpp"

namespace fdroute::inline v0 {

/// What stands in the places of a padded row that its token leaves unused.
enum class Padding : std::uint8_t {
  minus_one,     ///< id -1, weight 0
  repeat_valid,  ///< the id of the token's largest logit, weight 0: for kernels that index blindly
};

/// A routing in padded form, written to the caller's memory.
///
/// Row t of `experts` and `weights`, shape (tokens, capacity), holds token t's `counts[t]` experts
/// in descending order of logit (equal logits: lower index first), then padding. `capacity` must be
/// at least the router's, and Id able to hold every expert's id. An id of -1 in the padding is, in
/// an unsigned Id, its largest value. `status`, shape (tokens), may be null.
template <class Id = std::int32_t>
struct RoutingView {
  Id* experts;           ///< (tokens, capacity)
  float* weights;        ///< (tokens, capacity)
  std::int32_t* counts;  ///< (tokens)
  int capacity;          ///< places of a row
  Padding padding = Padding::minus_one;
  TokenStatus* status = nullptr;  ///< (tokens), or null

  /// The routing of the tokens from `first` on.
  constexpr RoutingView from(std::ptrdiff_t first) const noexcept {
    return {experts + first * capacity,
            weights + first * capacity,
            counts + first,
            capacity,
            padding,
            status == nullptr ? nullptr : status + first};
  }
};

template <class Id>
RoutingView(Id*, float*, std::int32_t*, int) -> RoutingView<Id>;
template <class Id>
RoutingView(Id*, float*, std::int32_t*, int, Padding) -> RoutingView<Id>;
template <class Id>
RoutingView(Id*, float*, std::int32_t*, int, Padding, TokenStatus*) -> RoutingView<Id>;

namespace detail {

template <class Id>
inline constexpr bool lists_experts<RoutingView<Id>> = true;

/// Room for rows of at most `capacity` experts, and ids that hold each of `experts`.
template <class Id>
void expect_room(const RoutingView<Id>& out, int experts, int capacity) noexcept {
  expects(out.capacity >= capacity, "out.capacity >= router.capacity()");
  to_id<Id>(experts - 1);
}

/// `best` is the id that Padding::repeat_valid repeats.
template <class Id>
constexpr Places<Id> places_of(const RoutingView<Id>& out, int, Id best) noexcept {
  return {out.experts, out.weights, out.capacity,
          out.padding == Padding::minus_one ? Id(-1) : best};
}

/// Writes what follows the `written` first places, of which `count` hold experts and weights:
/// padding and the count.
template <class Id>
void write_rest(const RoutingView<Id>& out, int written, Id padding, int count) noexcept {
  std::fill(out.experts + written, out.experts + out.capacity, padding);
  std::fill(out.weights + written, out.weights + out.capacity, 0.0F);
  *out.counts = count;
}

}  // namespace detail
}  // namespace fdroute::inline v0
