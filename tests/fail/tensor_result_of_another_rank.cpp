// A result holds a row of places where the logits hold a row of experts.
#include "fdroute/eigen.hpp"
#include "fdroute/router.hpp"
#include "fdroute/selection/topk.hpp"

int main() {
#ifdef FDROUTE_FAIL
  constexpr int rank = 2;
#else
  constexpr int rank = 3;
#endif
  const Eigen::Tensor<float, 3> logits(2, 3, 4);
  Eigen::Tensor<float, rank> weights;
  fdroute::route(fdroute::Router(4, fdroute::TopK{1}), logits, fdroute::EigenDense{weights});
}
