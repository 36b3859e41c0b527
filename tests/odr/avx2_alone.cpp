// Of an inline function that several translation units hold, the linker keeps one: which would hide
// a difference between them. Under another name it keeps this one's, too.
#define fdroute fdroute_alone

#include "fdroute/openmp.hpp"
#include "routes.hpp"

#if !defined(__AVX2__) || !defined(__FMA__)
#error "this translation unit is compiled for AVX2 and FMA"
#endif

Routes routes_avx2_alone(const std::vector<float>& logits, int experts) {
  struct Alone {};
  return make_routes<Alone>(fdroute::OpenMP{2}, logits, experts);
}
