#pragma once

#include <algorithm>
#include <cstdint>

#include "fdroute/completion.hpp"
#include "fdroute/limits.hpp"
#include "fdroute/views.hpp"

// What the caller promises of views, checked in every build: a few comparisons per call. Whether a
// pointer leads to as much memory as the view says cannot be checked. What a view to write to
// promises is checked by expect_room(), in the view's own file.

namespace fdroute::inline v0::detail {

template <class T>
void expect_valid(const LogitsView<T>& logits, int experts) noexcept {
  expects(logits.experts == experts, "logits.experts == router.experts()");
  expects(logits.tokens >= 0, "logits.tokens >= 0");
  expects(logits.tokens <= 1 || logits.stride == 0 || logits.stride >= experts ||
              logits.stride <= -experts,
          "|logits.stride| >= logits.experts, or 0");
}

template <class T>
void expect_valid(const BatchView<T>& batch, int experts) noexcept {
  expects(batch.experts == experts, "batch.experts == router.experts()");
  expects(batch.tokens >= 0, "batch.tokens >= 0");
  expects(batch.masks == nullptr || batch.mask_stride == 0 ||
              batch.mask_stride >= BitmaskView::words_per_token(experts),
          "batch.mask_stride >= BitmaskView::words_per_token(experts), or 0");
}

/// Checks what complete() is promised.
template <class Id>
void expect_completable(const Residency& resident, const Completion& completion,
                        const RoutingView<Id>& routing, int experts) noexcept {
  expects(completion.window >= 1 && completion.max_k >= 1,
          "completion.window >= 1 and completion.max_k >= 1");
  expects(resident.stride == 0 || resident.stride >= BitmaskView::words_per_token(experts),
          "resident.stride >= BitmaskView::words_per_token(experts), or 0");
  expects(routing.capacity >= std::min(completion.max_k, experts),
          "routing.capacity >= min(completion.max_k, experts)");
  to_id<Id>(experts - 1);
}

/// What a token selected, without its weights: those of `routing` may be null.
template <class Id>
RoutingView<Id> selection_of(const RoutingView<Id>& routing, std::ptrdiff_t token) noexcept {
  return {routing.experts + token * routing.capacity, nullptr, routing.counts + token,
          routing.capacity};
}

/// The count of a padded row that is read.
template <class Id>
std::int32_t checked_count(const RoutingView<Id>& row) noexcept {
  const std::int32_t count = row.counts[0];
  expects(count >= 0 && count <= row.capacity, "0 <= every count <= routing.capacity");
  return count;
}

/// An id that is read, as an index below `end`.
template <class Id>
std::int64_t checked_id(Id id, std::int64_t end) noexcept {
  const auto index = static_cast<std::int64_t>(id);
  expects(index >= 0 && index < end, "every id lies in [0, experts)");
  return index;
}

}  // namespace fdroute::inline v0::detail
