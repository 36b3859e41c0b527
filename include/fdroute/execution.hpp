#pragma once

#include <cstddef>
#include <utility>

#include "fdroute/views.hpp"

namespace fdroute::inline v0 {

/// An execution: for_each(n, body) calls `body(i)` once for each i in [0, n), in any order and on
/// any threads, and returns the union of the statuses that the calls return, when all have ended.
/// `body` throws nothing and may run concurrently with itself. fdroute ships Serial and OpenMP
/// (fdroute/openmp.hpp); an engine may bring its own, over its thread pool. route() takes it by
/// value.
template <class E>
concept Execution = requires(const E& execution, std::ptrdiff_t n) {
  {
    execution.for_each(n, [](std::ptrdiff_t) noexcept { return TokenStatus::ok; })
  }
  noexcept->std::same_as<TokenStatus>;
};

/// Serial: the calling thread does everything. The default execution.
struct Serial {
  /// Calls body(i) for i = 0 .. n - 1, in that order.
  template <class Body>
  TokenStatus for_each(std::ptrdiff_t n, const Body& body) const noexcept {
    TokenStatus status = TokenStatus::ok;
    for (std::ptrdiff_t i = 0; i < n; ++i) status = status | body(i);
    return status;
  }
};

/// The Serial execution, to pass to route().
inline constexpr Serial serial{};

/// An execution by reference: a pool that is neither copied nor const, as std::ref. It holds a
/// pointer to the pool, which must outlive the calls.
///
///     router.route(fdroute::ByReference{pool}, logits, out);
///
/// `pool.for_each` is that of an Execution, const or not.
template <class Pool>
class ByReference {
 public:
  constexpr explicit ByReference(Pool& pool) noexcept : pool_(&pool) {}

  template <class Body>
  auto for_each(std::ptrdiff_t n, const Body& body) const
      noexcept(noexcept(std::declval<Pool&>().for_each(n, body)))
          -> decltype(std::declval<Pool&>().for_each(n, body)) {
    return pool_->for_each(n, body);
  }

 private:
  Pool* pool_;
};

}  // namespace fdroute::inline v0
