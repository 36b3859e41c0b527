#include "routes.hpp"

#if !defined(__AVX2__) || !defined(__FMA__) || defined(__AVX512F__)
#error "this translation unit is compiled for AVX2 and FMA"
#endif

Compiled compiled_for_avx2() {
  using Arch = xsimd::fma3<xsimd::avx2>;
  return {"avx2+fma",
          [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); },
          route_on<Arch>,
          kernels_on<Arch>,
          widened_on<Arch>,
          widened_on<Arch, true>};
}
