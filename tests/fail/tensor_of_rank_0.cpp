// The last extent of a tensor of logits is the experts: there must be one.
#include "fdroute/eigen.hpp"
#include "fdroute/router.hpp"
#include "fdroute/selection/topk.hpp"

int main() {
#ifdef FDROUTE_FAIL
  const Eigen::Tensor<float, 0> logits;
#else
  const Eigen::Tensor<float, 1> logits(4);
#endif
  fdroute::route(fdroute::Router(4, fdroute::TopK{1}), logits);
}
