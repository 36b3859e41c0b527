// Ends a program on a processor that lacks the instructions it is compiled for, before any of them
// runs. Compiled without these; FDROUTE_NEEDS_AVX512 says which they are.

#include <cstdio>
#include <cstdlib>

namespace {

// With a priority before that of objects with constructors, which may use vectors.
[[gnu::constructor(101)]] void check_processor() {
  __builtin_cpu_init();
#if defined(FDROUTE_NEEDS_AVX512)
  const char* const needed = "AVX-512 (F, CD, BW, DQ, VL)";
  const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
                   __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512vl");
  const char* const other = "; a program of this name that ends in _avx2 does without";
#else
  const char* const needed = "AVX2 and FMA";
  const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const char* const other = "";
#endif
  if (has) return;
  std::fprintf(stderr, "this program is compiled for %s, which this processor lacks%s\n", needed,
               other);
  std::exit(EXIT_FAILURE);
}

}  // namespace
