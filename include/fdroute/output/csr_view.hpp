#pragma once

#include <cstddef>
#include <cstdint>

#include "fdroute/output/row.hpp"

namespace fdroute::inline v0 {

/// A routing in compressed form (compressed sparse rows), written to the caller's memory: token t
/// owns places offsets[t] up to offsets[t + 1] of `experts` and `weights`, in descending order of
/// logit (equal logits: lower index first). A token without experts owns none.
///
/// Shapes: offsets (tokens + 1), from 0 on, so that offsets[tokens] is the number of assignments;
/// experts and weights (assignments). As that number is not known beforehand, route() asks for room
/// for tokens * router.capacity() entries of both; what it leaves in those from offsets[tokens] on
/// is unspecified. `status`, shape (tokens), may be null.
template <class Id = std::int32_t>
struct CsrView {
  std::int64_t* offsets;          ///< (tokens + 1)
  Id* experts;                    ///< (assignments)
  float* weights;                 ///< (assignments)
  TokenStatus* status = nullptr;  ///< (tokens), or null

  /// The routing of the tokens from `first` on; their places are numbered as before.
  constexpr CsrView from(std::ptrdiff_t first) const noexcept {
    return {offsets + first, experts, weights, status == nullptr ? nullptr : status + first};
  }
};

template <class Id>
CsrView(std::int64_t*, Id*, float*) -> CsrView<Id>;
template <class Id>
CsrView(std::int64_t*, Id*, float*, TokenStatus*) -> CsrView<Id>;

namespace detail {

template <class Id>
inline constexpr bool lists_experts<CsrView<Id>> = true;

/// Ids that hold each of `experts`. How many places there are, a view does not say.
template <class Id>
void expect_room(const CsrView<Id>&, int experts, int) noexcept {
  to_id<Id>(experts - 1);
}

/// The token starts at offsets[0]. What is written of its `room` places after its last expert is
/// for the next token to overwrite.
template <class Id>
constexpr Places<Id> places_of(const CsrView<Id>& out, int room, Id) noexcept {
  return {out.experts + out.offsets[0], out.weights + out.offsets[0], room, Id(0)};
}

/// The token's end, which is the next one's start.
template <class Id>
void write_rest(const CsrView<Id>& out, int, Id, int count) noexcept {
  out.offsets[1] = out.offsets[0] + count;
}

}  // namespace detail
}  // namespace fdroute::inline v0
