#pragma once

#ifndef _OPENMP
#error "fdroute/openmp.hpp needs OpenMP: compile with -fopenmp, or do not include this header"
#endif

#include <omp.h>

#include <cstddef>

#include "fdroute/execution.hpp"

namespace fdroute::inline v0 {

/// OpenMP: an execution by which OpenMP's threads share the tokens. It is an argument's type, not a
/// macro, so translation units with and without OpenMP instantiate different functions and can be
/// linked.
struct OpenMP {
  int threads = 0;  ///< 0: OpenMP's own choice

  /// Calls body(i) once for each i in [0, n), on the team's threads, equal shares each.
  template <class Body>
  TokenStatus for_each(std::ptrdiff_t n, const Body& body) const noexcept {
    unsigned status = 0;
    const int team = threads > 0 ? threads : omp_get_max_threads();
#pragma omp parallel for schedule(static) num_threads(team) reduction(| : status)
    for (std::ptrdiff_t i = 0; i < n; ++i) status |= static_cast<unsigned>(body(i));
    return static_cast<TokenStatus>(status);
  }
};

}  // namespace fdroute::inline v0
