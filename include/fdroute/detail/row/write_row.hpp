#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "fdroute/views.hpp"

// How a view holds a token's routing: the only writer of rows. A view that is added gets its
// functions here: places_of(), if it lists experts, else write_row(); write_rest(). In all of them
// the token is the first of the view.

namespace fdroute::inline v0::detail {

/// One token's routing, to be written.
struct RowToWrite {
  std::span<const std::int32_t> experts;  // the selected ones, by rank
  const float* weights;                   // theirs; a BitmaskView reads none
  std::int32_t best;                      // the expert of rank 1, selected or not
  TokenStatus status = TokenStatus::ok;
};

/// Where a view lists the token's experts: how many places may be written, and the id for those
/// after the last expert.
template <class Id>
struct Places {
  Id* experts;
  float* weights;
  int room;
  Id padding;
};

/// `best` is the id that Padding::repeat_valid repeats.
template <class Id>
constexpr Places<Id> places_of(const RoutingView<Id>& out, int, Id best) noexcept {
  return {out.experts, out.weights, out.capacity,
          out.padding == Padding::minus_one ? Id(-1) : best};
}

/// The token starts at offsets[0]. What is written of its `room` places after its last expert is
/// for the next token to overwrite.
template <class Id>
constexpr Places<Id> places_of(const CsrView<Id>& out, int room, Id) noexcept {
  return {out.experts + out.offsets[0], out.weights + out.offsets[0], room, Id(0)};
}

/// A view that lists experts by rank.
template <class View>
inline constexpr bool lists_experts = false;
template <class Id>
inline constexpr bool lists_experts<RoutingView<Id>> = true;
template <class Id>
inline constexpr bool lists_experts<CsrView<Id>> = true;

/// Writes what follows the `written` first places, of which `count` hold experts and weights:
/// padding and the count.
template <class Id>
void write_rest(const RoutingView<Id>& out, int written, Id padding, int count) noexcept {
  std::fill(out.experts + written, out.experts + out.capacity, padding);
  std::fill(out.weights + written, out.weights + out.capacity, 0.0F);
  *out.counts = count;
}

/// The token's end, which is the next one's start.
template <class Id>
void write_rest(const CsrView<Id>& out, int, Id, int count) noexcept {
  out.offsets[1] = out.offsets[0] + count;
}

/// The count, if the view takes counts.
template <class View>
void write_rest(const View& out, int count) noexcept {
  if (out.counts != nullptr) *out.counts = count;
}

template <class View>
void write_status(const View& out, TokenStatus status) noexcept {
  if (out.status != nullptr) *out.status = status;
}

template <class View>
void write_row(const View& out, const RowToWrite& row, int) noexcept requires lists_experts<View> {
  using Id = std::remove_pointer_t<decltype(out.experts)>;
  const auto count = static_cast<int>(row.experts.size());
  const Places<Id> to = places_of(out, count, static_cast<Id>(row.best));
  std::transform(row.experts.begin(), row.experts.end(), to.experts,
                 [](std::int32_t expert) { return static_cast<Id>(expert); });
  std::copy_n(row.weights, count, to.weights);
  write_rest(out, count, to.padding, count);
  write_status(out, row.status);
}

inline void write_row(const DenseView& out, const RowToWrite& row, int experts) noexcept {
  std::fill_n(out.weights, experts, 0.0F);
  for (std::size_t i = 0; i < row.experts.size(); ++i) out.weights[row.experts[i]] = row.weights[i];
  write_rest(out, static_cast<int>(row.experts.size()));
  write_status(out, row.status);
}

inline void write_row(const BitmaskView& out, const RowToWrite& row, int) noexcept {
  std::fill_n(out.words, out.stride, std::uint64_t{0});
  for (const std::int32_t expert : row.experts)
    out.words[expert / 64] |= std::uint64_t{1} << (expert % 64);
  write_rest(out, static_cast<int>(row.experts.size()));
  write_status(out, row.status);
}

}  // namespace fdroute::inline v0::detail
