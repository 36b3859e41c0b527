#pragma once

#include <Eigen/Core>
#include <array>
#include <concepts>
#include <cstddef>
#include <string>
#include <tuple>
#include <type_traits>
#include <unsupported/Eigen/CXX11/Tensor>

#include "fdroute/detail/eigen/read.hpp"
#include "fdroute/errors.hpp"

// Eigen objects as memory for results. Those that own their memory are resized if they must be, all
// others must have the shape.

namespace fdroute::inline v0::detail {

/// A result of shape (tokens, width): element (t, i) is data[t * stride + i * place_stride].
template <class T>
struct Plane {
  T* data;
  std::ptrdiff_t tokens;
  std::ptrdiff_t width;
  std::ptrdiff_t stride;
  std::ptrdiff_t place_stride;

  T& at(std::ptrdiff_t token, std::ptrdiff_t place) const noexcept {
    return data[token * stride + place * place_stride];
  }

  /// Rows lie one after the other, as the views of route() have them.
  bool is_packed() const noexcept {
    return (place_stride == 1 || width <= 1) && (stride == width || tokens <= 1);
  }
};

/// How wide a result must be: exactly, or at least.
struct Width {
  std::ptrdiff_t needed;
  bool exactly = true;

  bool fits(std::ptrdiff_t width) const { return exactly ? width == needed : width >= needed; }
};

template <class Extents>
std::string shape_text(const Extents& extents) {
  std::string text = "(";
  for (const std::ptrdiff_t extent : extents)
    text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + ")";
}

template <class Extents>
[[noreturn]] void throw_shape(const char* name, const Extents& got, const Extents& needed) {
  detail::refuse("route: ", name, " has shape ", shape_text(got),
                 " and cannot be resized, expected ", shape_text(needed));
}

template <class X>
inline constexpr bool is_tensor_rows = false;
template <int Rank, int Layout>
inline constexpr bool is_tensor_rows<TensorRows<Rank, Layout>> = true;

template <class X>
inline constexpr int layout_of = 0;
template <int Rank, int Layout>
inline constexpr int layout_of<TensorRows<Rank, Layout>> = Layout;

template <class X>
inline constexpr bool is_plain_tensor = false;
template <class T, int Rank, int Options, class Index>
inline constexpr bool is_plain_tensor<Eigen::Tensor<T, Rank, Options, Index>> = true;

template <EigenMatrix R>
Plane<typename R::Scalar> plane_of(MatrixRows rows, R& result, Width width, const char* name) {
  static_assert((static_cast<unsigned>(R::Flags) & Eigen::DirectAccessBit) != 0 &&
                    (static_cast<unsigned>(R::Flags) & Eigen::LvalueBit) != 0,
                "fdroute::route: a result must be a matrix, map, reference or block that can be "
                "written to");
  if (result.rows() != rows.tokens || !width.fits(result.cols())) {
    const bool resizable =
        std::derived_from<R, Eigen::PlainObjectBase<R>> &&
        (R::RowsAtCompileTime == Eigen::Dynamic || R::RowsAtCompileTime == rows.tokens) &&
        (R::ColsAtCompileTime == Eigen::Dynamic || width.fits(R::ColsAtCompileTime));
    const std::array<std::ptrdiff_t, 2> needed{rows.tokens, width.needed};
    if (!resizable) throw_shape(name, std::array{result.rows(), result.cols()}, needed);
    if constexpr (std::derived_from<R, Eigen::PlainObjectBase<R>>) {
      constexpr auto fixed = static_cast<std::ptrdiff_t>(R::ColsAtCompileTime);
      result.resize(rows.tokens, fixed == Eigen::Dynamic ? width.needed : fixed);
    }
  }
  return {result.data(), rows.tokens, result.cols(), result.rowStride(), result.colStride()};
}

/// Gives a tensor the extents, of which the last is a Width; returns its last one.
template <class R, std::size_t rank>
std::ptrdiff_t shape_tensor(R& result, std::array<std::ptrdiff_t, rank> extents, bool exactly,
                            const char* name) {
  std::array<std::ptrdiff_t, rank> got;
  bool fits = true;
  for (std::size_t i = 0; i < rank; ++i) {
    got[i] = result.dimensions()[i];
    const bool at_least = !exactly && i + 1 == rank;
    fits &= Width{extents[i], !at_least}.fits(got[i]);
  }
  if (!fits) {
    if constexpr (is_plain_tensor<R>) {
      Eigen::array<typename R::Index, rank> dimensions;
      for (std::size_t i = 0; i < rank; ++i)
        dimensions[i] = static_cast<typename R::Index>(extents[i]);
      result.resize(dimensions);
      got = extents;
    } else {
      throw_shape(name, got, extents);
    }
  }
  if constexpr (rank > 0) return got[rank - 1];
  return 1;
}

template <int Rank, int Layout, EigenTensor R>
auto plane_of(const TensorRows<Rank, Layout>& rows, R& result, Width width, const char* name) {
  using Traits = Eigen::internal::traits<R>;
  static_assert(static_cast<int>(Traits::NumDimensions) == Rank,
                "fdroute::route: a result (..., places) has the rank of the logits (..., experts)");
  static_assert(static_cast<int>(Traits::Layout) == Layout,
                "fdroute::route: a result has the layout of the logits, Eigen::ColMajor or "
                "Eigen::RowMajor");
  std::array<std::ptrdiff_t, static_cast<std::size_t>(Rank)> extents;
  for (std::size_t i = 0; i < rows.extents.size(); ++i) extents[i] = rows.extents[i];
  extents.back() = width.needed;
  const std::ptrdiff_t got = shape_tensor(result, extents, width.exactly, name);
  const bool by_rows = Layout == static_cast<int>(Eigen::RowMajor) || Rank == 1;
  return Plane<std::remove_pointer_t<decltype(result.data())>>{
      result.data(), rows.tokens, got, by_rows ? got : 1, by_rows ? 1 : rows.tokens};
}

/// A result of shape (n), contiguous: at least so long unless `exactly`.
template <class R>
auto* line_of(R& result, std::ptrdiff_t n, bool exactly, const char* name) {
  static_assert(EigenLogits<R>,
                "fdroute::route: a result of shape (n) is a vector or a tensor of "
                "rank 1 of Eigen");
  if constexpr (EigenMatrix<R>) {
    static_assert(
        static_cast<bool>(R::IsVectorAtCompileTime) && int{R::InnerStrideAtCompileTime} == 1,
        "fdroute::route: a result of shape (n) is a vector whose elements lie side by "
        "side");
    const Width length{n, exactly};
    if (!length.fits(result.size())) {
      if constexpr (std::derived_from<R, Eigen::PlainObjectBase<R>> &&
                    static_cast<int>(R::SizeAtCompileTime) == Eigen::Dynamic) {
        result.resize(n);
      } else {
        throw_shape(name, std::array{static_cast<std::ptrdiff_t>(result.size())}, std::array{n});
      }
    }
  } else {
    static_assert(static_cast<int>(Eigen::internal::traits<R>::NumDimensions) == 1,
                  "fdroute::route: a result of shape (n) is a vector or a tensor of rank 1");
    shape_tensor(result, std::array{n}, exactly, name);
  }
  return result.data();
}

/// A number for each token: a vector, or a tensor without the logits' last extent.
template <class Rows, class R>
auto* counts_of(const Rows& rows, R& result, const char* name) {
  if constexpr (is_tensor_rows<Rows> && EigenTensor<R>) {
    using Traits = Eigen::internal::traits<R>;
    constexpr std::size_t rank = std::tuple_size_v<decltype(rows.extents)>;
    static_assert(static_cast<std::size_t>(Traits::NumDimensions) == rank,
                  "fdroute::route: counts (...) have one extent less than the logits (..., "
                  "experts)");
    static_assert(rank < 2 || static_cast<int>(Traits::Layout) == layout_of<Rows>,
                  "fdroute::route: counts have the layout of the logits, Eigen::ColMajor or "
                  "Eigen::RowMajor");
    shape_tensor(result, rows.extents, true, name);
    return result.data();
  } else {
    return line_of(result, rows.tokens, true, name);
  }
}

}  // namespace fdroute::inline v0::detail
