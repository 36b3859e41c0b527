#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

#include "fdroute/detail/eigen/write.hpp"
#include "fdroute/execution.hpp"
#include "fdroute/rows.hpp"
#include "fdroute/views.hpp"

// The forms of a routing in Eigen objects: route() writes them in place where their rows are
// packed, else by way of a few rows on the stack.

namespace fdroute::inline v0::detail {

/// What is given in place of a result that is not wanted.
struct Unwanted {};

/// What is routed by way of the stack at once.
inline constexpr std::ptrdiff_t most_staged = 1024;

/// Calls route(first, tokens) for pieces of at most 16 tokens, and of `most_staged` elements of
/// rows of `width`.
template <class E, class Route>
TokenStatus in_pieces(const E& execution, std::ptrdiff_t tokens, std::ptrdiff_t width,
                      const Route& route) noexcept {
  const std::ptrdiff_t piece =
      std::clamp<std::ptrdiff_t>(most_staged / std::max<std::ptrdiff_t>(width, 1), 1, 16);
  return execution.for_each((tokens + piece - 1) / piece, [&](std::ptrdiff_t i) noexcept {
    return route(i * piece, std::min(piece, tokens - i * piece));
  });
}

template <class R>
using ScalarOf = typename Eigen::internal::traits<std::remove_cvref_t<R>>::Scalar;

template <class T, class R>
inline constexpr bool holds = std::is_same_v<ScalarOf<R>, T>;

template <class Rows, class Counts>
std::int32_t* wanted_counts(const Rows& rows, Counts& counts) {
  if constexpr (std::is_same_v<std::remove_cvref_t<Counts>, Unwanted>) {
    return nullptr;
  } else {
    static_assert(holds<std::int32_t, Counts>, "fdroute::route: counts are std::int32_t");
    return counts_of(rows, counts, "counts");
  }
}

template <class Arch, class E, class AnyPolicy, class Logits, class Id>
TokenStatus write_padded(const E& execution, const AnyPolicy& router, Logits logits,
                         const Plane<Id>& experts, const Plane<float>& weights,
                         std::int32_t* counts, Padding padding) noexcept {
  if (experts.is_packed() && weights.is_packed()) {
    const RoutingView<Id> out{experts.data, weights.data, counts, static_cast<int>(experts.width),
                              padding};
    return route_on<Arch>(router, execution, logits, out);
  }
  const int capacity = router.capacity();
  return in_pieces(
      execution, logits.tokens, capacity, [&](std::ptrdiff_t first, std::ptrdiff_t tokens) {
        std::array<Id, most_staged> ids;
        std::array<float, most_staged> shares;
        const RoutingView<Id> staged{ids.data(), shares.data(), counts + first, capacity, padding};
        const TokenStatus status =
            route_on<Arch>(router, serial, logits.slice(first, tokens), staged);
        for (std::ptrdiff_t t = 0; t < tokens; ++t) {
          const RoutingView<Id> row = staged.from(t);
          const Id rest = padding == Padding::minus_one ? Id(-1) : row.experts[0];
          for (std::ptrdiff_t i = 0; i < experts.width; ++i) {
            experts.at(first + t, i) = i < capacity ? row.experts[i] : rest;
            weights.at(first + t, i) = i < capacity ? row.weights[i] : 0.0F;
          }
        }
        return status;
      });
}

/// Rows of `width` elements by View{data, stride, counts}: a DenseView or a BitmaskView.
template <class View, class Arch, class E, class AnyPolicy, class Logits, class T>
TokenStatus write_rows(const E& execution, const AnyPolicy& router, Logits logits,
                       const Plane<T>& out, std::int32_t* counts) noexcept {
  if (out.is_packed())
    return route_on<Arch>(router, execution, logits, View{out.data, out.width, counts});
  return in_pieces(
      execution, logits.tokens, out.width, [&](std::ptrdiff_t first, std::ptrdiff_t tokens) {
        std::array<T, most_staged> staged;
        const TokenStatus status = route_on<Arch>(
            router, serial, logits.slice(first, tokens),
            View{staged.data(), out.width, counts == nullptr ? nullptr : counts + first});
        for (std::ptrdiff_t t = 0; t < tokens; ++t)
          for (std::ptrdiff_t i = 0; i < out.width; ++i)
            out.at(first + t, i) = staged[static_cast<std::size_t>(t * out.width + i)];
        return status;
      });
}

}  // namespace fdroute::inline v0::detail
