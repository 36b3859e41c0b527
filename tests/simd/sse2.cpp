#include "routes.hpp"

#if defined(__AVX__) || defined(__SSE3__)
#error "this translation unit is compiled for SSE2"
#endif

Compiled compiled_for_sse2() {
  return {"sse2",
          [] { return true; },
          route_on<xsimd::sse2>,
          kernels_on<xsimd::sse2>,
          widened_on<xsimd::sse2>,
          widened_on<xsimd::sse2, true>};
}
