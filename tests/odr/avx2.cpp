#include "fdroute/openmp.hpp"
#include "routes.hpp"

#if !defined(__AVX2__) || !defined(__FMA__) || !defined(_OPENMP)
#error "this translation unit is the one with flags"
#endif

Routes routes_avx2(const std::vector<float>& logits, int experts) {
  struct Avx2 {};
  return make_routes<Avx2>(fdroute::OpenMP{2}, logits, experts);
}
