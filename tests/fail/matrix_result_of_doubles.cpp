// Weights are float: they are not converted on the way out.
#include "fdroute/eigen.hpp"
#include "fdroute/router.hpp"
#include "fdroute/selection/topk.hpp"

int main() {
#ifdef FDROUTE_FAIL
  Eigen::MatrixXd weights;
#else
  Eigen::MatrixXf weights;
#endif
  const Eigen::MatrixXf logits(3, 4);
  fdroute::route(fdroute::Router(4, fdroute::TopK{1}), logits, fdroute::EigenDense{weights});
}
