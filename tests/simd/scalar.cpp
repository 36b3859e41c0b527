#include "routes.hpp"

#if defined(__AVX__) || defined(__FMA__)
#error "this translation unit is compiled without flags"
#endif

Compiled compiled_for_scalar() {
  return {"scalar",
          [] { return true; },
          route_on<fdroute::ScalarArch>,
          kernels_on<fdroute::ScalarArch>,
          widened_on<fdroute::ScalarArch>,
          widened_on<fdroute::ScalarArch, true>};
}
