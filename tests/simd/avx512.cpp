#include "routes.hpp"

#if !defined(__AVX512BW__) || !defined(__AVX512DQ__)
#error "this translation unit is compiled for AVX-512"
#endif

Compiled compiled_for_avx512() {
  return {"avx512bw",
          [] {
            return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
          },
          route_on<xsimd::avx512bw>,
          kernels_on<xsimd::avx512bw>,
          widened_on<xsimd::avx512bw>,
          widened_on<xsimd::avx512bw, true>};
}
