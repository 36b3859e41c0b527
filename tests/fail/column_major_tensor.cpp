// A token's logits lie side by side only in a row-major tensor.
#include "fdroute/eigen.hpp"
#include "fdroute/router.hpp"
#include "fdroute/selection/topk.hpp"

int main() {
#ifdef FDROUTE_FAIL
  constexpr int layout = Eigen::ColMajor;
#else
  constexpr int layout = Eigen::RowMajor;
#endif
  const Eigen::Tensor<float, 3, layout> logits(2, 3, 4);
  fdroute::route(fdroute::Router(4, fdroute::TopK{1}), logits);
}
