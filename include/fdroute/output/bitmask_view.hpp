#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "fdroute/limits.hpp"
#include "fdroute/output/row.hpp"

namespace fdroute::inline v0 {

/// The selected sets alone, written to the caller's memory: row t of `words`, shape
/// (tokens, stride), has bit j % 64 of word j / 64 set if expert j is selected; all other bits of
/// the row are 0. No weight is computed. `counts` and `status` may be null.
struct BitmaskView {
  std::uint64_t* words;            ///< (tokens, stride)
  std::ptrdiff_t stride;           ///< words_per_token(experts), or more
  std::int32_t* counts = nullptr;  ///< (tokens), or null
  TokenStatus* status = nullptr;   ///< (tokens), or null

  /// ceil(experts / 64)
  static constexpr int words_per_token(int experts) noexcept {
    return experts / 64 + (experts % 64 != 0 ? 1 : 0);
  }

  /// The routing of the tokens from `first` on.
  constexpr BitmaskView from(std::ptrdiff_t first) const noexcept {
    return {words + first * stride, stride, counts == nullptr ? nullptr : counts + first,
            status == nullptr ? nullptr : status + first};
  }
};

namespace detail {

template <>
inline constexpr bool holds_weights<BitmaskView> = false;

inline void expect_room(const BitmaskView& out, int experts, int) noexcept {
  expects(out.stride >= BitmaskView::words_per_token(experts),
          "out.stride >= BitmaskView::words_per_token(experts)");
}

inline void write_row(const BitmaskView& out, const RowToWrite& row, int) noexcept {
  std::fill_n(out.words, out.stride, std::uint64_t{0});
  for (const std::int32_t expert : row.experts)
    out.words[expert / 64] |= std::uint64_t{1} << (expert % 64);
  write_rest(out, static_cast<int>(row.experts.size()));
  write_status(out, row.status);
}

}  // namespace detail
}  // namespace fdroute::inline v0
