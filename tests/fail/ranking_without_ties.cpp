// A ranking says which of two equal keys ranks first.
#include <algorithm>
#include <span>

#include "fdroute/router.hpp"
#include "fdroute/selection/topk.hpp"

struct MyRanking {
#ifndef FDROUTE_FAIL
  fdroute::TieOrder ties = fdroute::TieOrder::lowest_index;
#endif
  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    std::copy(logits.begin(), logits.end(), keys.begin());
  }
};

int main() {
  const fdroute::Router router(64, fdroute::TopK{8}, fdroute::SoftmaxWeights{},
                               fdroute::ExpertBounds{}, MyRanking{});
  return router.experts() == 64 ? 0 : 1;
}
