#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "fdroute/detail/checks/check_views.hpp"
#include "fdroute/dispatch.hpp"
#include "fdroute/limits.hpp"
#include "fdroute/views.hpp"

namespace fdroute::inline v0 {

// The forms of one routing. route() writes all but the last; the padded one is the hub from which
// the others are made and to which they lead back. Nothing here allocates.
//
//     padded        the routing itself: experts in selection order, weights, counts
//     CSR           the padded form without its padding
//     bitmask       which experts, no weights
//     dense         weights without the selection: one that rounds to 0 looks like none; hence
//                   dense + bitmask
//     by expert     DispatchPlan
//
// What is read is checked, in every build: a count beyond its row, or an id beyond the experts or
// the type it goes to, aborts with a message.
//
// padded -> CSR -> padded returns every id, weight and count. From dense + bitmask and from a
// DispatchPlan, which know no selection order, a token's experts come back by descending weight,
// equal weights by lower index: the same set and the same weights always, and the same order unless
// two selected weights round to the same float or the weights do not follow the ranking.

/// The number of assignments, that is of (token, expert) pairs: the sum of the counts.
template <class Id>
std::int64_t assignments(RoutingView<Id> routing, std::ptrdiff_t tokens) noexcept {
  std::int64_t sum = 0;
  for (std::ptrdiff_t token = 0; token < tokens; ++token) sum += routing.counts[token];
  return sum;
}

namespace detail {

// Fills a padded row behind its `count` experts; see to_padded().
template <class Id>
void pad_row(RoutingView<Id> row, std::int32_t count) noexcept {
  const Id valid = count > 0 ? row.experts[0] : Id(0);
  write_rest(row, count, places_of(row, row.capacity, valid).padding, count);
}

// Puts one more expert into the first `count` places of a padded row, which are in order of
// descending weight; of equal weights, the one that came first stays in front.
template <class Id>
void insert_by_weight(RoutingView<Id> row, std::int32_t count, Id expert, float weight) noexcept {
  expects(count < row.capacity, "out.capacity >= every count");
  std::int32_t place = count;
  for (; place > 0 && row.weights[place - 1] < weight; --place) {
    row.experts[place] = row.experts[place - 1];
    row.weights[place] = row.weights[place - 1];
  }
  row.experts[place] = expert;
  row.weights[place] = weight;
}

}  // namespace detail

/// Padded to padded: another width, id type or padding. `out.status` is copied if both have one.
///
/// With Padding::repeat_valid and out.capacity = top_k the result is the fixed top-k form that
/// kernels of other engines take. Every place is a valid id; the places beyond the count repeat the
/// token's first expert (expert 0 if it has none) with weight 0, and no count need be read. Aborts
/// with a message if a count exceeds out.capacity: experts are never dropped silently.
template <class Id, class OutId>
void to_padded(RoutingView<Id> routing, std::ptrdiff_t tokens, RoutingView<OutId> out) noexcept {
  for (std::ptrdiff_t token = 0; token < tokens; ++token) {
    const RoutingView<Id> from = routing.from(token);
    const RoutingView<OutId> row = out.from(token);
    const std::int32_t count = detail::checked_count(from);
    detail::expects(count <= row.capacity, "out.capacity >= every count");
    std::transform(from.experts, from.experts + count, row.experts,
                   [](Id id) { return detail::to_id<OutId>(id); });
    std::copy_n(from.weights, count, row.weights);
    detail::pad_row(row, count);
    if (from.status != nullptr && row.status != nullptr) *row.status = *from.status;
  }
}

/// Padded to CSR: leaves the padding out. `out.status` is copied if both have one. `out.experts`
/// and `out.weights` have assignments(routing, tokens) places, `out.offsets` tokens + 1.
template <class Id, class OutId>
void to_csr(RoutingView<Id> routing, std::ptrdiff_t tokens, CsrView<OutId> out) noexcept {
  std::int64_t place = 0;
  for (std::ptrdiff_t token = 0; token < tokens; ++token) {
    const RoutingView<Id> from = routing.from(token);
    out.offsets[token] = place;
    const std::int32_t count = detail::checked_count(from);
    for (std::int32_t i = 0; i < count; ++i, ++place) {
      out.experts[place] = detail::to_id<OutId>(from.experts[i]);
      out.weights[place] = from.weights[i];
    }
    if (from.status != nullptr && out.status != nullptr) out.status[token] = *from.status;
  }
  out.offsets[tokens] = place;
}

/// CSR to padded. `out.status` is copied if both have one. Aborts with a message if a token has
/// more than out.capacity experts.
template <class Id, class OutId>
void to_padded(CsrView<Id> routing, std::ptrdiff_t tokens, RoutingView<OutId> out) noexcept {
  for (std::ptrdiff_t token = 0; token < tokens; ++token) {
    const RoutingView<OutId> row = out.from(token);
    const std::int64_t first = routing.offsets[token];
    const std::int64_t count = routing.offsets[token + 1] - first;
    detail::expects(count >= 0, "routing.offsets do not decrease");
    detail::expects(count <= row.capacity, "out.capacity >= every count");
    for (std::int64_t i = 0; i < count; ++i) {
      row.experts[i] = detail::to_id<OutId>(routing.experts[first + i]);
      row.weights[i] = routing.weights[first + i];
    }
    detail::pad_row(row, static_cast<std::int32_t>(count));
    if (routing.status != nullptr && row.status != nullptr) *row.status = routing.status[token];
  }
}

/// Padded to dense: the weight of every expert, 0 where it is not selected. `out.counts` and
/// `out.status` may be null.
template <class Id>
void to_dense(RoutingView<Id> routing, std::ptrdiff_t tokens, int experts, DenseView out) noexcept {
  detail::expect_room(out, experts, experts);
  for (std::ptrdiff_t token = 0; token < tokens; ++token) {
    const RoutingView<Id> from = routing.from(token);
    const DenseView row = out.from(token);
    std::fill_n(row.weights, experts, 0.0F);
    const std::int32_t count = detail::checked_count(from);
    for (std::int32_t i = 0; i < count; ++i)
      row.weights[detail::checked_id(from.experts[i], experts)] = from.weights[i];
    if (row.counts != nullptr) *row.counts = count;
    if (from.status != nullptr && row.status != nullptr) *row.status = *from.status;
  }
}

/// Padded to bitmask: one bit per selected expert. Counts and status are not written.
template <class Id>
void to_bitmask(RoutingView<Id> routing, std::ptrdiff_t tokens, BitmaskView out) noexcept {
  for (std::ptrdiff_t token = 0; token < tokens; ++token) {
    const RoutingView<Id> from = routing.from(token);
    std::uint64_t* row = out.from(token).words;
    std::fill_n(row, out.stride, std::uint64_t{0});
    const std::int32_t count = detail::checked_count(from);
    for (std::int32_t i = 0; i < count; ++i) {
      const std::int64_t expert = detail::checked_id(from.experts[i], 64 * out.stride);
      row[expert / 64] |= std::uint64_t{1} << (expert % 64);
    }
  }
}

/// Dense and bitmask to padded: the experts of the bitmask with their weights from the dense form,
/// by descending weight. Aborts with a message if a token has more than out.capacity experts.
template <class Id>
void to_padded(DenseView dense, BitmaskView selected, std::ptrdiff_t tokens,
               RoutingView<Id> out) noexcept {
  for (std::ptrdiff_t token = 0; token < tokens; ++token) {
    const RoutingView<Id> row = out.from(token);
    const float* weights = dense.from(token).weights;
    std::int32_t count = 0;
    std::size_t first = 0;
    const std::uint64_t* words = selected.from(token).words;
    for (std::uint64_t word : std::span(words, static_cast<std::size_t>(selected.stride))) {
      for (; word != 0; word &= word - 1) {
        const std::size_t expert = first + static_cast<std::size_t>(std::countr_zero(word));
        detail::checked_id(expert, dense.stride);
        detail::insert_by_weight(row, count++, detail::to_id<Id>(expert), weights[expert]);
      }
      first += 64;
    }
    detail::pad_row(row, count);
  }
}

/// By expert to padded: a plan's assignments, without those dropped, token by token, by descending
/// weight. Aborts with a message if a token has more than out.capacity experts, or the plan more
/// than `tokens` tokens.
template <class Id>
void to_padded(const DispatchPlan& plan, std::ptrdiff_t tokens, RoutingView<Id> out) noexcept {
  for (std::ptrdiff_t token = 0; token < tokens; ++token) out.counts[token] = 0;
  for (std::size_t expert = 0; expert + 1 < plan.offsets().size(); ++expert) {
    for (std::size_t i = plan.offsets()[expert]; i < plan.offsets()[expert + 1]; ++i) {
      detail::expects(plan.tokens()[i] < tokens, "the plan's tokens are at most `tokens`");
      const RoutingView<Id> row = out.from(plan.tokens()[i]);
      const auto id = static_cast<std::int64_t>(expert) + plan.first_expert();
      detail::insert_by_weight(row, row.counts[0]++, detail::to_id<Id>(id), plan.weights()[i]);
    }
  }
  for (std::ptrdiff_t token = 0; token < tokens; ++token)
    detail::pad_row(out.from(token), out.counts[token]);
}

}  // namespace fdroute::inline v0
