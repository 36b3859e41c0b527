#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "fdroute/arch.hpp"
#include "fdroute/detail/checks/requirements.hpp"
#include "fdroute/execution.hpp"
#include "fdroute/limits.hpp"
#include "fdroute/views.hpp"

// Requests with different policies in one batch: each token's routing is written to the token's
// own row of one shared output, by the router of its request. Results have the bits of route(): a
// token's routing depends on its logits and its router alone. Nothing is allocated.
//
// The output is any view but a CsrView, whose rows have no place before all rows before them are
// routed. Its capacity must be at least that of every router (to_csr() leads on from there).
// Neighbours with the same router are routed together; a token by itself takes longer.

namespace fdroute::inline v0 {

namespace detail {

inline constexpr std::ptrdiff_t rows_at_a_time = 16;

template <class View>
inline constexpr bool is_csr = false;
template <class Id>
inline constexpr bool is_csr<CsrView<Id>> = true;

/// Router::route on Arch; an AnyRouter has its own.
template <class Arch, class AnyPolicy, class E, class Logits, class View>
TokenStatus route_on(const AnyPolicy& router, const E& execution, Logits logits,
                     View out) noexcept {
  if constexpr (requires { router.template route<Arch>(execution, logits, out); }) {
    return router.template route<Arch>(execution, logits, out);
  } else {
    return router.route(execution, logits, out);
  }
}

/// Calls route(i, n) for runs of the places [0, size): those i .. i + n - 1 for which
/// belong(i, i + 1) ... hold.
template <class E, class Belong, class Route>
TokenStatus route_runs(const E& execution, std::ptrdiff_t size, const Belong& belong,
                       const Route& route) noexcept {
  static_assert(sizeof(ExecutionRequirements<E>) > 0);
  return execution.for_each(
      (size + rows_at_a_time - 1) / rows_at_a_time, [&](std::ptrdiff_t block) noexcept {
        const std::ptrdiff_t end = std::min(size, (block + 1) * rows_at_a_time);
        TokenStatus status = TokenStatus::ok;
        for (std::ptrdiff_t i = block * rows_at_a_time; i < end;) {
          std::ptrdiff_t next = i + 1;
          while (next < end && belong(next - 1, next)) ++next;
          status = status | route(i, next - i);
          i = next;
        }
        return status;
      });
}

}  // namespace detail

/// Routes the tokens `rows` of `logits`, a LogitsView or a BatchView, to the same rows of `out`,
/// and leaves all other rows of `out` as they are. Returns the union of the routed tokens'
/// statuses.
///
/// `rows` holds token indices in any order, each once: an engine's list of the tokens that one
/// policy routes. Aborts with a message if an index is outside [0, logits.tokens), and where
/// route() does.
template <class Arch = DefaultArch, class E, class AnyPolicy, LogitsForm Logits, class View>
TokenStatus route_rows(E execution, const AnyPolicy& router, std::span<const std::int32_t> rows,
                       Logits logits, View out) noexcept {
  static_assert(!detail::is_csr<View>,
                "fdroute::route_rows: a CsrView has no row before all rows "
                "before it are routed; route to another form");
  const auto row = [&](std::ptrdiff_t i) { return rows[static_cast<std::size_t>(i)]; };
  return detail::route_runs(
      execution, static_cast<std::ptrdiff_t>(rows.size()),
      [&](std::ptrdiff_t i, std::ptrdiff_t next) { return row(next) == row(i) + 1; },
      [&](std::ptrdiff_t i, std::ptrdiff_t n) {
        detail::expects(row(i) >= 0 && row(i) + n <= logits.tokens,
                        "every row lies in [0, logits.tokens)");
        return detail::route_on<Arch>(router, serial, logits.slice(row(i), n), out.from(row(i)));
      });
}

/// route_rows() on the calling thread.
template <class Arch = DefaultArch, class AnyPolicy, LogitsForm Logits, class View>
TokenStatus route_rows(const AnyPolicy& router, std::span<const std::int32_t> rows, Logits logits,
                       View out) noexcept {
  return route_rows<Arch>(serial, router, rows, logits, out);
}

/// Routes token t by routers[router_of[t]], all tokens to their rows of `out`. `routers` are of one
/// type, AnyRouter as a rule: those that a layer has for the requests of a batch. `router_of` has
/// shape (logits.tokens). Aborts with a message if its size or an entry is not that, and where
/// route() does.
template <class Arch = DefaultArch, class E, class AnyPolicy, LogitsForm Logits, class View>
TokenStatus route_each(E execution, std::span<const AnyPolicy> routers,
                       std::span<const std::int32_t> router_of, Logits logits, View out) noexcept {
  static_assert(!detail::is_csr<View>,
                "fdroute::route_each: a CsrView has no row before all rows "
                "before it are routed; route to another form");
  detail::expects(static_cast<std::ptrdiff_t>(router_of.size()) == logits.tokens,
                  "router_of has an entry for each token");
  const auto of = [&](std::ptrdiff_t t) {
    return static_cast<std::size_t>(router_of[static_cast<std::size_t>(t)]);
  };
  return detail::route_runs(
      execution, logits.tokens,
      [&](std::ptrdiff_t t, std::ptrdiff_t next) { return of(next) == of(t); },
      [&](std::ptrdiff_t t, std::ptrdiff_t n) {
        detail::expects(of(t) < routers.size(), "every router_of lies in [0, routers.size())");
        return detail::route_on<Arch>(routers[of(t)], serial, logits.slice(t, n), out.from(t));
      });
}

/// route_each() on the calling thread.
template <class Arch = DefaultArch, class AnyPolicy, LogitsForm Logits, class View>
TokenStatus route_each(std::span<const AnyPolicy> routers, std::span<const std::int32_t> router_of,
                       Logits logits, View out) noexcept {
  return route_each<Arch>(serial, routers, router_of, logits, out);
}

}  // namespace fdroute::inline v0
