// A rule returns a count, not a threshold.
#include "fdroute/null/normal.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/zscore.hpp"

struct MyRule {
#ifdef FDROUTE_FAIL
  double operator()(std::span<const double>) const noexcept {
    return 0.5;
  }
#else
  int operator()(std::span<const double>) const noexcept {
    return 1;
  }
#endif
};

int main() {
  const fdroute::Router router(64, MyRule{}, fdroute::ZScore{}, fdroute::NormalNull{});
  return router.experts() == 64 ? 0 : 1;
}
