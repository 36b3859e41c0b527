// Both forms are this file: the good one is compiled with OpenMP.
#include "fdroute/openmp.hpp"

#if defined(FDROUTE_FAIL) == defined(_OPENMP)
static_assert(false, "the test compiles the wrong form");
#endif

int main() {
  return fdroute::OpenMP{1}.threads - 1;
}
