#include "routes.hpp"

#if !defined(__aarch64__)
#error "this translation unit is compiled for 64-bit Arm"
#endif

Compiled compiled_for_neon() {
  return {"neon64",
          [] { return true; },
          route_on<xsimd::neon64>,
          kernels_on<xsimd::neon64>,
          widened_on<xsimd::neon64>,
          widened_on<xsimd::neon64, true>};
}
