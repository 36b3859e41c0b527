#pragma once

#include <Eigen/Core>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <unsupported/Eigen/CXX11/Tensor>

#include "fdroute/arch.hpp"
#include "fdroute/concepts.hpp"
#include "fdroute/detail/eigen/forms.hpp"
#include "fdroute/detail/eigen/read.hpp"
#include "fdroute/detail/eigen/write.hpp"
#include "fdroute/execution.hpp"
#include "fdroute/views.hpp"

/// Routing of Eigen objects, `fdroute::route([execution,] router, logits[, out])`.
///
/// Logits are a matrix or array (tokens, experts), or a tensor of any rank >= 1 whose last extent
/// is the experts; of any layout; a map, reference, block, chip, slice or expression. Their scalar
/// is float, double, Eigen::half, Eigen::bfloat16 or whatever else converts to float. What has its
/// numbers in memory, in whatever order, is read in place; an expression is evaluated first, which
/// allocates. `router` is a Router or an AnyRouter.
///
/// `out` is a Routing, a TensorRouting, or one of EigenPadded, EigenDense, EigenCsr and
/// EigenBitmask, which refer to Eigen objects of the caller's. Those of the right shape are written
/// to as they are; others are resized if they own their memory. The results of a tensor are tensors
/// of its rank and its layout. Nothing is allocated but what is said here.
///
/// All functions throw std::invalid_argument if the last extent is not router.experts() or a result
/// that cannot be resized has another shape, and std::bad_alloc.
namespace fdroute::inline v0 {

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

/// The routing of a tensor of logits (..., experts) of this rank and layout.
template <int Rank = 3, int Layout = Eigen::RowMajor>
struct TensorRouting {
  Eigen::Tensor<float, Rank, Layout> dense;              ///< (..., experts)
  Eigen::Tensor<std::int32_t, Rank, Layout> experts;     ///< (..., capacity)
  Eigen::Tensor<float, Rank, Layout> weights;            ///< (..., capacity)
  Eigen::Tensor<std::int32_t, Rank - 1, Layout> counts;  ///< (...)
  TokenStatus status = TokenStatus::ok;                  ///< union over the tokens
};

/// Padded results: a RoutingView's, in Eigen objects. `experts`, of any integer that RoutingView
/// takes, and `weights`, of float, have shape (..., width) with width >= router.capacity(), which
/// is the width that they are resized to; `counts`, of std::int32_t, has shape (...).
template <class Experts, class Weights, class Counts>
struct EigenPadded {
  Experts experts;
  Weights weights;
  Counts counts;
  Padding padding = Padding::minus_one;
};
template <class Experts, class Weights, class Counts>
EigenPadded(Experts&&, Weights&&, Counts&&) -> EigenPadded<Experts, Weights, Counts>;
template <class Experts, class Weights, class Counts>
EigenPadded(Experts&&, Weights&&, Counts&&, Padding) -> EigenPadded<Experts, Weights, Counts>;

/// Dense results: a DenseView's. `weights`, of float, has shape (..., experts); `counts`, of
/// std::int32_t and shape (...), may be left out.
template <class Weights, class Counts = detail::Unwanted>
struct EigenDense {
  Weights weights;
  Counts counts{};
};
template <class Weights>
EigenDense(Weights&&) -> EigenDense<Weights>;
template <class Weights, class Counts>
EigenDense(Weights&&, Counts&&) -> EigenDense<Weights, Counts>;

/// Sets alone: a BitmaskView's. `words`, of std::uint64_t, has shape (..., ceil(experts / 64));
/// `counts`, of std::int32_t and shape (...), may be left out.
template <class Words, class Counts = detail::Unwanted>
struct EigenBitmask {
  Words words;
  Counts counts{};
};
template <class Words>
EigenBitmask(Words&&) -> EigenBitmask<Words>;
template <class Words, class Counts>
EigenBitmask(Words&&, Counts&&) -> EigenBitmask<Words, Counts>;

/// Compressed results: a CsrView's, in vectors or tensors of rank 1. `offsets`, of std::int64_t,
/// has size tokens + 1; `experts`, of any integer that CsrView takes, and `weights`, of float, at
/// least tokens * router.capacity(). Tokens are numbered as the logits lie in memory: by the last
/// extent before the experts first if they are row-major, by the first extent if they are
/// column-major.
template <class Offsets, class Experts, class Weights>
struct EigenCsr {
  Offsets offsets;
  Experts experts;
  Weights weights;
};
template <class Offsets, class Experts, class Weights>
EigenCsr(Offsets&&, Experts&&, Weights&&) -> EigenCsr<Offsets, Experts, Weights>;

/// How route() takes an execution of type E: by itself. fdroute/eigen_threads.hpp adds
/// Eigen::ThreadPoolDevice.
template <class E>
struct ExecutionOf {
  static const E& of(const E& execution) noexcept { return execution; }
};

namespace detail {

template <class Arch, class E, class AnyPolicy, class Logits, class Rows, class... Results>
TokenStatus route_to(const E& execution, const AnyPolicy& router, Logits logits, const Rows& rows,
                     EigenPadded<Results...>& out) {
  static_assert(holds<float, decltype(out.weights)>, "fdroute::route: weights are float");
  const Width at_least{router.capacity(), false};
  const auto experts = plane_of(rows, out.experts, at_least, "experts");
  const auto weights = plane_of(rows, out.weights, Width{experts.width}, "weights");
  static_assert(!std::is_same_v<std::remove_cvref_t<decltype(out.counts)>, Unwanted>);
  return write_padded<Arch>(execution, router, logits, experts, weights,
                            wanted_counts(rows, out.counts), out.padding);
}

template <class Arch, class E, class AnyPolicy, class Logits, class Rows, class... Results>
TokenStatus route_to(const E& execution, const AnyPolicy& router, Logits logits, const Rows& rows,
                     EigenDense<Results...>& out) {
  static_assert(holds<float, decltype(out.weights)>, "fdroute::route: weights are float");
  const auto weights = plane_of(rows, out.weights, Width{router.experts()}, "weights");
  return write_rows<DenseView, Arch>(execution, router, logits, weights,
                                     wanted_counts(rows, out.counts));
}

template <class Arch, class E, class AnyPolicy, class Logits, class Rows, class... Results>
TokenStatus route_to(const E& execution, const AnyPolicy& router, Logits logits, const Rows& rows,
                     EigenBitmask<Results...>& out) {
  static_assert(holds<std::uint64_t, decltype(out.words)>,
                "fdroute::route: words of a bitmask are std::uint64_t");
  const Width width{BitmaskView::words_per_token(router.experts())};
  const auto words = plane_of(rows, out.words, width, "words");
  return write_rows<BitmaskView, Arch>(execution, router, logits, words,
                                       wanted_counts(rows, out.counts));
}

template <class Arch, class E, class AnyPolicy, class Logits, class Rows, class... Results>
TokenStatus route_to(const E& execution, const AnyPolicy& router, Logits logits, const Rows& rows,
                     EigenCsr<Results...>& out) {
  static_assert(holds<std::int64_t, decltype(out.offsets)>,
                "fdroute::route: offsets are std::int64_t");
  static_assert(holds<float, decltype(out.weights)>, "fdroute::route: weights are float");
  const std::ptrdiff_t places = rows.tokens * router.capacity();
  const CsrView csr{line_of(out.offsets, rows.tokens + 1, true, "offsets"),
                    line_of(out.experts, places, false, "experts"),
                    line_of(out.weights, places, false, "weights")};
  return route_on<Arch>(router, execution, logits, csr);
}

// A Routing or a TensorRouting: padded, in its very shape, and the dense weights from that.
template <class Arch, class E, class AnyPolicy, class Logits, class Rows, class Result>
TokenStatus route_to(const E& execution, const AnyPolicy& router, Logits logits, const Rows& rows,
                     Result& out) {
  const Width width{router.capacity()};
  const auto experts = plane_of(rows, out.experts, width, "experts");
  const auto weights = plane_of(rows, out.weights, width, "weights");
  const auto dense = plane_of(rows, out.dense, Width{router.experts()}, "dense");
  const std::int32_t* counts = wanted_counts(rows, out.counts);
  out.status = write_padded<Arch>(execution, router, logits, experts, weights,
                                  wanted_counts(rows, out.counts), Padding::minus_one);
  std::fill_n(dense.data, rows.tokens * dense.width, 0.0F);
  for (std::ptrdiff_t t = 0; t < rows.tokens; ++t)
    for (std::ptrdiff_t i = 0; i < counts[t]; ++i) dense.at(t, experts.at(t, i)) = weights.at(t, i);
  return out.status;
}

template <class L>
struct RoutingOf {
  using type = Routing;
};
template <EigenTensor L>
struct RoutingOf<L> {
  using Traits = Eigen::internal::traits<L>;
  static constexpr int rank = RankOf<L>::value;
  // Of rank 0, Eigen itself would stop the compiler before it says so.
  using type = TensorRouting<(rank < 1 ? 1 : rank), static_cast<int>(Traits::Layout)>;
};

}  // namespace detail

/// Routes logits by an execution, which may be an Eigen::ThreadPoolDevice
/// (fdroute/eigen_threads.hpp), to results that exist. Returns the union of the tokens' statuses.
template <class Arch = DefaultArch, class E, class AnyPolicy, EigenLogits L, class Out>
TokenStatus route(const E& execution, const AnyPolicy& router, const L& logits, Out&& out) {
  return detail::with_logits(router.experts(), logits, [&](auto view, const auto& rows) {
    return detail::route_to<Arch>(ExecutionOf<E>::of(execution), router, view, rows, out);
  });
}

/// Routes logits on the calling thread to results that exist.
template <class Arch = DefaultArch, class AnyPolicy, EigenLogits L, class Out>
TokenStatus route(const AnyPolicy& router, const L& logits, Out&& out) {
  return route<Arch>(serial, router, logits, out);
}

/// Routes logits by an execution to new results: a Routing, or a TensorRouting of the logits' rank
/// and layout.
template <class Arch = DefaultArch, class E, class AnyPolicy, EigenLogits L>
auto route(const E& execution, const AnyPolicy& router, const L& logits) {
  typename detail::RoutingOf<L>::type out;
  route<Arch>(execution, router, logits, out);
  return out;
}

/// Routes logits on the calling thread to new results.
template <class Arch = DefaultArch, class AnyPolicy, EigenLogits L>
auto route(const AnyPolicy& router, const L& logits) {
  return route<Arch>(serial, router, logits);
}

}  // namespace fdroute::inline v0
