#pragma once

#include <doctest/doctest.h>

#include <vector>

#include "routes.hpp"

/// By the path without kernels (simd_test.cpp).
Routes route_by_definition(const Case& c);

/// The vector instruction sets that this machine can run; of tests/matrix, the one that it compiles
/// for.
inline std::vector<Compiled> vector_archs() {
#if defined(FDROUTE_TEST_NATIVE)
  const std::vector<Compiled> compiled{compiled_for_native()};
#elif defined(FDROUTE_TEST_AVX2_ALONE)
  const std::vector<Compiled> compiled{compiled_for_avx2()};
#elif defined(__aarch64__)
  const std::vector<Compiled> compiled{compiled_for_neon()};
#else
  const std::vector<Compiled> compiled{compiled_for_sse2(), compiled_for_avx2(),
                                       compiled_for_avx512()};
#endif
  std::vector<Compiled> archs;
  for (const Compiled& arch : compiled) {
    if (arch.runs_here()) {
      archs.push_back(arch);
    } else {
      MESSAGE("compiled for ", arch.name, ", which this machine cannot run");
    }
  }
  return archs;
}
