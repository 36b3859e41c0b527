#pragma once

#include <Eigen/Core>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <unsupported/Eigen/CXX11/Tensor>

#include "fdroute/arch.hpp"
#include "fdroute/concepts.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/execution.hpp"
#include "fdroute/views.hpp"

/// Routing of Eigen objects: `fdroute::route(router, logits)` for a matrix (tokens, experts) or a
/// tensor (batch, sequence, experts), with results of that rank. `router` is a Router or an
/// AnyRouter; an execution may come first. Scalars are float, double, Eigen::half or
/// Eigen::bfloat16. All functions throw std::invalid_argument if the last extent is not
/// router.experts(), and std::bad_alloc: the results are allocated.
namespace fdroute::inline v0 {

template <>
inline constexpr LogitFormat logit_format<Eigen::bfloat16> = LogitFormat::bfloat16;
template <>
inline constexpr LogitFormat logit_format<Eigen::half> = LogitFormat::float16;

/// A matrix of logits, weights or ids, a token's row after the other.
template <class T>
using RowMajorMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// The routing of a matrix of logits (tokens, experts).
struct Routing {
  RowMajorMatrix<float> dense;           ///< (tokens, experts): weights, 0 where not selected
  RowMajorMatrix<std::int32_t> experts;  ///< (tokens, capacity): ids in descending logit order, -1
  RowMajorMatrix<float> weights;         ///< (tokens, capacity): their weights, 0 in the padding
  Eigen::VectorX<std::int32_t> counts;   ///< (tokens)
  TokenStatus status = TokenStatus::ok;  ///< union over the tokens
};

/// The routing of a tensor of logits (batch, sequence, experts).
struct TensorRouting {
  Eigen::Tensor<float, 3, Eigen::RowMajor> dense;           ///< (batch, sequence, experts)
  Eigen::Tensor<std::int32_t, 3, Eigen::RowMajor> experts;  ///< (batch, sequence, capacity)
  Eigen::Tensor<float, 3, Eigen::RowMajor> weights;         ///< (batch, sequence, capacity)
  Eigen::Tensor<std::int32_t, 2, Eigen::RowMajor> counts;   ///< (batch, sequence)
  TokenStatus status = TokenStatus::ok;                     ///< union over the tokens
};

namespace detail {

inline void check_experts(std::ptrdiff_t extent, int experts) {
  if (extent != experts) {
    detail::refuse("route: the logits have " + std::to_string(extent) + " experts, the router " +
                   std::to_string(experts));
  }
}

// Routes into a result whose arrays have their sizes already; row-major arrays of any rank look
// alike.
template <class Arch, class E, class AnyPolicy, class T, class Result>
void route_into(E execution, const AnyPolicy& router, LogitsView<T> logits, Result& out) {
  const RoutingView padded{out.experts.data(), out.weights.data(), out.counts.data(),
                           router.capacity()};
  if constexpr (requires { router.template route<Arch>(execution, logits, padded); }) {
    out.status = router.template route<Arch>(execution, logits, padded);
  } else {  // an AnyRouter: it has its own Arch
    out.status = router.route(execution, logits, padded);
  }
  for (std::ptrdiff_t token = 0; token < logits.tokens; ++token) {
    float* dense = out.dense.data() + token * logits.experts;
    const RoutingView row = padded.from(token);
    for (std::int32_t i = 0; i < row.counts[0]; ++i) dense[row.experts[i]] = row.weights[i];
  }
}

}  // namespace detail

/// Routes a matrix expression (tokens, experts). A row-major matrix, map or block with contiguous
/// rows is read in place; any other expression, a column-major matrix included, is evaluated first.
template <class Arch = DefaultArch, class E, class AnyPolicy, class Derived>
Routing route(E execution, const AnyPolicy& router, const Eigen::MatrixBase<Derived>& logits) {
  using Scalar = typename Derived::Scalar;
  const Eigen::Ref<const RowMajorMatrix<Scalar>, 0, Eigen::OuterStride<>> rows(logits.derived());
  detail::check_experts(rows.cols(), router.experts());
  Routing out;
  out.dense.setZero(rows.rows(), rows.cols());
  out.experts.resize(rows.rows(), router.capacity());
  out.weights.resize(rows.rows(), router.capacity());
  out.counts.resize(rows.rows());
  const LogitsView<Scalar> view(rows.data(), rows.rows(), router.experts(), rows.outerStride());
  detail::route_into<Arch>(execution, router, view, out);
  return out;
}

/// Routes a matrix expression on the calling thread.
template <class Arch = DefaultArch, class AnyPolicy, class Derived>
Routing route(const AnyPolicy& router, const Eigen::MatrixBase<Derived>& logits) {
  return route<Arch>(serial, router, logits);
}

/// Routes a tensor, or a map of one, of shape (batch, sequence, experts). It must be row-major,
/// since a token's logits must lie side by side.
template <class Arch = DefaultArch, class E, class AnyPolicy, class Derived>
TensorRouting route(E execution, const AnyPolicy& router,
                    const Eigen::TensorBase<Derived, Eigen::ReadOnlyAccessors>& logits) {
  static_assert(Derived::NumDimensions == 3, "fdroute::route: a tensor of logits has rank 3");
  static_assert(static_cast<int>(Derived::Layout) == static_cast<int>(Eigen::RowMajor),
                "fdroute::route: a tensor of logits must be Eigen::RowMajor");
  const auto& tensor = static_cast<const Derived&>(logits);
  const Eigen::Index batch = tensor.dimension(0);
  const Eigen::Index sequence = tensor.dimension(1);
  detail::check_experts(tensor.dimension(2), router.experts());
  TensorRouting out;
  out.dense.resize(batch, sequence, router.experts());
  out.dense.setZero();
  out.experts.resize(batch, sequence, router.capacity());
  out.weights.resize(batch, sequence, router.capacity());
  out.counts.resize(batch, sequence);
  const LogitsView<typename Derived::Scalar> view(tensor.data(), batch * sequence,
                                                  router.experts());
  detail::route_into<Arch>(execution, router, view, out);
  return out;
}

/// Routes a tensor on the calling thread.
template <class Arch = DefaultArch, class AnyPolicy, class Derived>
TensorRouting route(const AnyPolicy& router,
                    const Eigen::TensorBase<Derived, Eigen::ReadOnlyAccessors>& logits) {
  return route<Arch>(serial, router, logits);
}

}  // namespace fdroute::inline v0
