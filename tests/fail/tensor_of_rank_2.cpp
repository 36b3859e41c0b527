// A tensor of logits is (batch, sequence, experts); for (tokens, experts) there are matrices.
#include "fdroute/eigen.hpp"
#include "fdroute/router.hpp"
#include "fdroute/selection/topk.hpp"

int main() {
#ifdef FDROUTE_FAIL
  const Eigen::Tensor<float, 2, Eigen::RowMajor> logits(3, 4);
#else
  const Eigen::Tensor<float, 3, Eigen::RowMajor> logits(1, 3, 4);
#endif
  fdroute::route(fdroute::Router(4, fdroute::TopK{1}), logits);
}
