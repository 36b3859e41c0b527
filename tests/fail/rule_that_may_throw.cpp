// route() is noexcept, so what it calls must be.
#include "fdroute/null/normal.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/zscore.hpp"

struct MyRule {
#ifdef FDROUTE_FAIL
  int operator()(std::span<const double>) const {
    return 1;
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
