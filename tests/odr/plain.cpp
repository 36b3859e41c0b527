#include "routes.hpp"

#if defined(__AVX2__) || defined(__FMA__) || defined(_OPENMP)
#error "this translation unit is the one without flags"
#endif

Routes routes_plain(const std::vector<float>& logits, int experts) {
  struct Plain {};
  return make_routes<Plain>(fdroute::serial, logits, experts);
}
