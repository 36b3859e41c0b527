// A null distribution is called from several threads at once: its call operator is const.
#include "fdroute/router.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"

struct MyNull {
#ifdef FDROUTE_FAIL
  double operator()(double score) noexcept {
    return score > 0.0 ? 0.0 : 1.0;
  }
#else
  double operator()(double score) const noexcept {
    return score > 0.0 ? 0.0 : 1.0;
  }
#endif
};

int main() {
  const fdroute::Router router(64, fdroute::BenjaminiHochberg{0.05}, fdroute::ZScore{}, MyNull{});
  return router.experts() == 64 ? 0 : 1;
}
