// An execution unites and returns the statuses of the tokens.
#include "fdroute/router.hpp"
#include "fdroute/selection/topk.hpp"

struct MyExecution {
#ifdef FDROUTE_FAIL
  template <class Body>
  void for_each(std::ptrdiff_t n, const Body& body) const noexcept {
    for (std::ptrdiff_t i = 0; i < n; ++i) body(i);
  }
#else
  template <class Body>
  fdroute::TokenStatus for_each(std::ptrdiff_t n, const Body& body) const noexcept {
    return fdroute::serial.for_each(n, body);
  }
#endif
};

int main() {
  const fdroute::Router router(4, fdroute::TopK{1});
  const float logits[4] = {};
  float weights[4];
  router.route(MyExecution{}, fdroute::LogitsView{logits, 1, 4}, fdroute::DenseView{weights, 4});
}
