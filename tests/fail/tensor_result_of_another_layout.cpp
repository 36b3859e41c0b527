// Tensors of one expression share a layout, and so do logits and results.
#include "fdroute/eigen.hpp"
#include "fdroute/router.hpp"
#include "fdroute/selection/topk.hpp"

int main() {
#ifdef FDROUTE_FAIL
  constexpr int layout = Eigen::ColMajor;
#else
  constexpr int layout = Eigen::RowMajor;
#endif
  const Eigen::Tensor<float, 3, Eigen::RowMajor> logits(2, 3, 4);
  Eigen::Tensor<float, 3, layout> weights;
  fdroute::route(fdroute::Router(4, fdroute::TopK{1}), logits, fdroute::EigenDense{weights});
}
