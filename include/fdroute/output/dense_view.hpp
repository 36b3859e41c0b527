#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "fdroute/limits.hpp"
#include "fdroute/output/row.hpp"

namespace fdroute::inline v0 {

/// A routing in dense form, written to the caller's memory: row t of `weights`, shape
/// (tokens, experts) with rows `stride` >= experts elements apart, holds the weight of every
/// expert, 0 for those not selected. A selected expert's weight may itself round to 0, so `counts`,
/// shape (tokens), is part of the result. `counts` and `status` may be null.
struct DenseView {
  float* weights;                  ///< (tokens, experts), rows `stride` apart
  std::ptrdiff_t stride;           ///< experts, or more
  std::int32_t* counts = nullptr;  ///< (tokens), or null
  TokenStatus* status = nullptr;   ///< (tokens), or null

  /// The routing of the tokens from `first` on.
  constexpr DenseView from(std::ptrdiff_t first) const noexcept {
    return {weights + first * stride, stride, counts == nullptr ? nullptr : counts + first,
            status == nullptr ? nullptr : status + first};
  }
};

namespace detail {

inline void expect_room(const DenseView& out, int experts, int) noexcept {
  expects(out.stride >= experts, "out.stride >= experts");
}

inline void write_row(const DenseView& out, const RowToWrite& row, int experts) noexcept {
  std::fill_n(out.weights, experts, 0.0F);
  for (std::size_t i = 0; i < row.experts.size(); ++i) out.weights[row.experts[i]] = row.weights[i];
  write_rest(out, static_cast<int>(row.experts.size()));
  write_status(out, row.status);
}

}  // namespace detail
}  // namespace fdroute::inline v0
