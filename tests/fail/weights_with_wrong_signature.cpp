// Routing weights are written to the caller's memory, not returned.
#include "fdroute/router.hpp"
#include "fdroute/selection/topk.hpp"

struct MyWeights {
#ifdef FDROUTE_FAIL
  std::vector<float> operator()(std::span<const float> logits) const noexcept {
    return {logits.begin(), logits.end()};
  }
#else
  void operator()(std::span<const float> logits, std::span<const std::int32_t> experts,
                  std::span<float> weights) const noexcept {
    for (std::size_t i = 0; i < experts.size(); ++i)
      weights[i] = logits[static_cast<std::size_t>(experts[i])];
  }
#endif
};

int main() {
  const fdroute::Router router(64, fdroute::TopK{8}, MyWeights{});
  return router.experts() == 64 ? 0 : 1;
}
