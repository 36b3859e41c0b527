#pragma once

#include <Eigen/Core>
#include <array>
#include <concepts>
#include <cstddef>
#include <type_traits>
#include <unsupported/Eigen/CXX11/Tensor>

#include "fdroute/concepts.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/views.hpp"

// Eigen objects as views of logits.

namespace fdroute::inline v0 {

template <>
inline constexpr LogitFormat logit_format<Eigen::bfloat16> = LogitFormat::bfloat16;
template <>
inline constexpr LogitFormat logit_format<Eigen::half> = LogitFormat::float16;

/// A matrix, vector or array of Eigen, or an expression of one.
template <class X>
concept EigenMatrix = std::derived_from<X, Eigen::DenseBase<X>>;

/// A tensor of Eigen, or an expression of one.
template <class X>
concept EigenTensor = std::derived_from<X, Eigen::TensorBase<X, Eigen::ReadOnlyAccessors>>;

template <class X>
concept EigenLogits = EigenMatrix<X> || EigenTensor<X>;

namespace detail {

/// How many tokens there are, and in what shape: those of a matrix in one row.
struct MatrixRows {
  std::ptrdiff_t tokens;
};

/// Those of a tensor in all extents but the last.
template <int Rank, int Layout>
struct TensorRows {
  std::ptrdiff_t tokens;
  std::array<std::ptrdiff_t, static_cast<std::size_t>(Rank) - 1> extents;
};

inline void check_experts(std::ptrdiff_t extent, int experts) {
  if (extent != experts) {
    detail::refuse("route: the logits have ", extent, " experts, the router ", experts);
  }
}

/// Returns f(view, rows), for a view of a matrix (tokens, experts). What has no memory of its own
/// is evaluated first.
template <EigenMatrix L, class F>
auto with_logits(int experts, const L& logits, const F& f) {
  using T = std::remove_const_t<typename L::Scalar>;
  static_assert(LogitValue<T>,
                "fdroute::route: the scalar of the logits does not convert to float");
  if constexpr ((static_cast<unsigned>(L::Flags) & Eigen::DirectAccessBit) == 0) {
    using Rows = Eigen::Array<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Rows rows = [&]() -> Rows {
      if constexpr (std::derived_from<L, Eigen::ArrayBase<L>>) {
        return logits;
      } else {
        return logits.array();
      }
    }();
    return with_logits(experts, rows, f);
  } else {
    check_experts(logits.cols(), experts);
    const MatrixRows rows{logits.rows()};
    if constexpr (static_cast<bool>(L::IsRowMajor) && int{L::InnerStrideAtCompileTime} == 1) {
      const std::ptrdiff_t stride = logits.rowStride();
      if (rows.tokens > 1 && stride != 0 && stride < experts && stride > -experts)
        detail::refuse("route: the rows of the logits overlap");
      return f(LogitsView<T>(logits.data(), rows.tokens, experts, stride), rows);
    } else {
      return f(
          BatchView<T>{logits.data(), rows.tokens, experts, logits.rowStride(), logits.colStride()},
          rows);
    }
  }
}

/// A tensor, or an expression whose memory can be read as it stands, as long as this lives.
template <class L>
class TensorReader {
  using Evaluator = Eigen::TensorEvaluator<const L, Eigen::DefaultDevice>;

 public:
  explicit TensorReader(const L& tensor) : evaluator_(tensor, device_) {
    evaluator_.evalSubExprsIfNeeded(nullptr);
  }
  TensorReader(const TensorReader&) = delete;
  TensorReader& operator=(const TensorReader&) = delete;
  ~TensorReader() { evaluator_.cleanup(); }

  std::ptrdiff_t extent(int i) const {
    return static_cast<std::ptrdiff_t>(evaluator_.dimensions()[static_cast<std::size_t>(i)]);
  }

  /// Null: there is no such memory.
  auto data() const { return evaluator_.data(); }

 private:
  static inline const Eigen::DefaultDevice device_{};
  Evaluator evaluator_;
};

/// The number of extents of a tensor of logits.
template <EigenTensor L>
struct RankOf {
  static constexpr int value = static_cast<int>(Eigen::internal::traits<L>::NumDimensions);
  static_assert(
      value >= 1,
      "fdroute::route: a tensor of logits has rank 1 or more: its last extent is experts");
};

/// with_logits() for a tensor (..., experts) of any rank and layout. Tokens are numbered as they
/// lie in memory: in a row-major tensor the last of their extents runs fastest, in a column-major
/// one the first.
template <EigenTensor L, class F>
auto with_logits(int experts, const L& logits, const F& f) {
  using Traits = Eigen::internal::traits<L>;
  using T = std::remove_const_t<typename Traits::Scalar>;
  constexpr int rank = RankOf<L>::value;
  constexpr int layout = static_cast<int>(Traits::Layout);
  static_assert(LogitValue<T>,
                "fdroute::route: the scalar of the logits does not convert to float");
  const TensorReader<L> reader(logits);
  check_experts(reader.extent(rank - 1), experts);
  TensorRows<rank, layout> rows{1, {}};
  for (int i = 0; i + 1 < rank; ++i) {
    rows.extents[static_cast<std::size_t>(i)] = reader.extent(i);
    rows.tokens *= reader.extent(i);
  }
  const auto route = [&](const T* data) {
    if constexpr (rank == 1 || layout == static_cast<int>(Eigen::RowMajor)) {
      return f(LogitsView<T>(data, rows.tokens, experts), rows);
    } else {
      return f(BatchView<T>{data, rows.tokens, experts, 1, rows.tokens}, rows);
    }
  };
  if (const T* data = reader.data(); data != nullptr) return route(data);
  const Eigen::Tensor<T, rank, layout, typename Traits::Index> evaluated = logits;
  return route(evaluated.data());
}

}  // namespace detail
}  // namespace fdroute::inline v0
