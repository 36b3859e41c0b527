// Eigen says when it allocates: here it throws if it may not.
#define EIGEN_RUNTIME_NO_MALLOC
#include <stdexcept>
#define eigen_assert(condition)                                     \
  do {                                                              \
    if (!(condition)) throw std::logic_error("Eigen: " #condition); \
  } while (false)

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "fdroute/any_router.hpp"
#include "fdroute/eigen.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "library/support.hpp"

namespace fd = fdroute;

namespace {

template <class Action>
bool allocates(Action&& action) {
  Eigen::internal::set_is_malloc_allowed(false);
  bool allocated = false;
  try {
    action();
  } catch (const std::logic_error& error) {
    allocated = std::string(error.what()).starts_with("Eigen: ");
  }
  Eigen::internal::set_is_malloc_allowed(true);
  return allocated;
}

}  // namespace

TEST_CASE("what exists is routed to what exists without allocation") {
  const fd::AnyRouter router(
      fd::Router(12, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, fd::NormalNull{},
                 fd::SoftmaxWeights{}, fd::ExpertBounds{0, 5}),
      "");
  const Eigen::MatrixXf columns = Eigen::MatrixXf::Random(30, 12);
  const fd::RowMajorMatrix<float> rows = columns;
  Eigen::Tensor<float, 3> tensor(5, 6, 12);
  tensor.setRandom();
  Eigen::Tensor<Eigen::half, 4> wide(5, 6, 12, 2);
  wide.setConstant(Eigen::half(1.0F));

  fd::Routing routing;
  fd::TensorRouting<3, Eigen::ColMajor> of_tensor;
  Eigen::MatrixXi experts(30, 5);
  Eigen::MatrixXf weights(30, 5);
  Eigen::VectorXi counts(30);
  Eigen::VectorX<std::int64_t> offsets(31);
  Eigen::VectorXi ids(150);
  Eigen::VectorXf shares(150);
  const auto all = [&] {
    fd::route(router, columns, routing);
    fd::route(router, rows, routing);
    fd::route(router, rows.topRows(30), routing);
    fd::route(router, tensor, of_tensor);
    fd::route(router, wide.chip(0, 3), of_tensor);  // column-major: the outermost extent
    fd::route(router, columns, fd::EigenPadded{experts, weights, counts});
    fd::route(router, columns, fd::EigenCsr{offsets, ids, shares});
    fd::route(router, columns, fd::EigenDense{routing.dense, counts});
  };
  CHECK(allocates(all));  // the routings have no size yet
  all();
  CHECK(!allocates(all));
  CHECK(allocates([&] { fd::route(router, columns + columns, routing); }));
}
