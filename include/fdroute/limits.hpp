#pragma once

#include <cstdio>
#include <cstdlib>

#include "fdroute/detail/number/require_ieee.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// The largest number of experts a router accepts. It bounds the scratch memory that `route()`
/// keeps on the stack (at most 128 KiB, or 192 KiB where a ranking has keys of its own; complete()
/// at most 192 KiB), which is how routing gets by without allocating.
inline constexpr int max_experts = 1024;

namespace detail {

inline void validate_experts(int experts) {
  if (experts < 1 || experts > max_experts) {
    detail::refuse("Router: the number of experts must lie in [1, ", max_experts, "], got ",
                   experts);
  }
}

[[noreturn]] inline void precondition_failed(const char* what) noexcept {
  std::fprintf(stderr, "fdroute: precondition violated: %s\n", what);
  std::abort();
}

/// Checks what the caller promised. It is checked in every build: it costs a few comparisons per
/// batch, `route()` cannot throw, and going on would write outside the caller's buffers.
inline void expects(bool condition, const char* what) noexcept {
  if (!condition) [[unlikely]]
    precondition_failed(what);
}

}  // namespace detail
}  // namespace fdroute::inline v0
