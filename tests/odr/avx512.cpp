#include "routes.hpp"

#if !defined(__AVX512F__) || !defined(__AVX512BW__)
#error "this translation unit is compiled for AVX-512"
#endif

Routes routes_avx512(const std::vector<float>& logits, int experts) {
  struct Avx512 {};
  return make_routes<Avx512>(fdroute::serial, logits, experts);
}
