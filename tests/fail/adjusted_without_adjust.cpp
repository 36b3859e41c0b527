// Not every rule has adjusted p-values: a fixed count has none.
#include <array>

#include "fdroute/multiple_testing.hpp"
#include "fdroute/selection/holm.hpp"
#include "fdroute/selection/topk.hpp"

int main() {
  std::array<double, 2> p{0.01, 0.2};
#ifdef FDROUTE_FAIL
  fdroute::adjusted(fdroute::TopK{1}, p, p);
#else
  fdroute::adjusted(fdroute::Holm{0.05}, p, p);
#endif
  return p[0] < p[1] ? 0 : 1;
}
