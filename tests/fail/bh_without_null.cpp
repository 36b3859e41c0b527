// A rule that reads p-values needs a null distribution.
#include "fdroute/null/normal.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"

int main() {
#ifdef FDROUTE_FAIL
  const fdroute::Router router(64, fdroute::BenjaminiHochberg{0.05});
#else
  const fdroute::Router router(64, fdroute::BenjaminiHochberg{0.05}, fdroute::ZScore{},
                               fdroute::NormalNull{});
#endif
  return router.experts() == 64 ? 0 : 1;
}
