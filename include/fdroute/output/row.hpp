#pragma once

#include <cstdint>
#include <span>

#include "fdroute/limits.hpp"

namespace fdroute::inline v0 {

/// What was unusual about a token's row of logits. Values combine as bits, by |.
enum class TokenStatus : std::uint8_t {
  ok = 0,
  has_nan = 1,          ///< some logit is NaN: it ranks below every number, its p-value is 1
  no_finite_logit = 2,  ///< nothing to rank: experts 0..min_k-1 were chosen, with weight 0
};

constexpr TokenStatus operator|(TokenStatus a, TokenStatus b) noexcept {
  return static_cast<TokenStatus>(static_cast<std::uint8_t>(a) | static_cast<std::uint8_t>(b));
}

/// Whether `status` has the bit.
constexpr bool has(TokenStatus status, TokenStatus bit) noexcept {
  return (static_cast<std::uint8_t>(status) & static_cast<std::uint8_t>(bit)) != 0;
}

namespace detail {

// What a view to write to is made of, beside its fields: expect_room(), which checks what it
// promises, and write_row(), which writes a token's routing. If it lists experts, instead of the
// latter lists_experts, places_of() and a write_rest() of its own, by which kernels and the
// write_row() of views.hpp write it. In all of them the token is the first of the view. A view's
// own file has all of this.

/// One token's routing, to be written.
struct RowToWrite {
  std::span<const std::int32_t> experts;  // the selected ones, by rank
  const float* weights;                   // theirs; null if the view holds none
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

/// A view that lists experts by rank.
template <class View>
inline constexpr bool lists_experts = false;

/// A view that holds weights.
template <class View>
inline constexpr bool holds_weights = true;

/// `id` as another type, which must hold it.
template <class To, class From>
To to_id(From id) noexcept {
  const To result = static_cast<To>(id);
  expects(static_cast<std::int64_t>(result) == static_cast<std::int64_t>(id),
          "every expert's id fits the view's type of ids");
  return result;
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

}  // namespace detail
}  // namespace fdroute::inline v0
