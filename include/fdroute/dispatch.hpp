#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/checks/requirements.hpp"
#include "fdroute/detail/dispatch/grouping.hpp"
#include "fdroute/detail/simd/compiler.hpp"
#include "fdroute/dispatch_limits.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/execution.hpp"
#include "fdroute/limits.hpp"
#include "fdroute/views.hpp"

namespace fdroute::inline v0 {

/// DispatchPlan: a routing regrouped by expert, so that each expert runs once over all its tokens.
///
/// The assignments (token, expert, weight) stand in ascending order of expert, and of token within
/// an expert. Let A be their number: the sum of the counts, less what DispatchLimits leave out. An
/// engine gathers the rows `tokens()` of the hidden states into a matrix (A, hidden), runs its i-th
/// expert on rows offsets()[i] .. offsets()[i + 1], and lets combine() sum the results back.
/// Weights are the routing's: what is dropped is not made up for. The object keeps its memory from
/// one build to the next. The result does not depend on the execution.
class DispatchPlan {
 public:
  /// An assignment that found no place: its token, expert and weight.
  using Dropped = detail::DroppedAssignment;

  /// Regroups a routing of `tokens` tokens over `experts` experts: a RoutingView, whose padding is
  /// skipped by `counts`, or a CsrView. Throws std::invalid_argument if an id is outside [0,
  /// experts), a count outside [0, routing.capacity], CSR offsets decrease, `experts` is below 1,
  /// `tokens` outside [0, 2^31], as token numbers are std::int32_t, or unless 0 <= limits.first <=
  /// limits.end and limits.capacity >= 0; std::bad_alloc. After an error the plan is as it was, or
  /// one of no expert and no token.
  template <class Form>
  void build(Form routing, std::ptrdiff_t tokens, int experts, DispatchLimits limits = {}) {
    build(serial, routing, tokens, experts, limits);
  }

  /// build() by an execution, which may share the tokens among threads.
  template <class E, class Form>
  void build(E execution, Form routing, std::ptrdiff_t tokens, int experts,
             DispatchLimits limits = {}) {
    check_extents(tokens, experts, limits);
    std::size_t assignments = 0;
    for (std::ptrdiff_t t = 0; t < tokens; ++t) assignments += checked_row(routing, t).count;
    reserve(tokens, static_cast<std::ptrdiff_t>(assignments), experts);
    const DispatchStatus status = build_reserved(execution, routing, tokens, experts, limits);
    if (status == DispatchStatus::bad_id) refuse_ids(routing, tokens, experts);
    detail::expects(status == DispatchStatus::ok,
                    "the routing is not changed while a plan of it is built");
  }

  /// Allocates what build_reserved() needs for batches of at most `tokens` tokens with at most
  /// `assignments` assignments (tokens * router.capacity() are enough) over at most `experts`
  /// experts. Throws std::bad_alloc or std::length_error.
  void reserve(std::ptrdiff_t tokens, std::ptrdiff_t assignments, int experts) {
    grouping_.reserve(tokens, assignments, experts);
  }

  /// build() without allocation or exception, after a reserve() of at least as much. If it does not
  /// return DispatchStatus::ok, the plan is one of no expert and no token.
  template <class E, class Form>
  DispatchStatus build_reserved(E execution, Form routing, std::ptrdiff_t tokens, int experts,
                                DispatchLimits limits = {}) noexcept {
    static_assert(sizeof(detail::ExecutionRequirements<E>) > 0);
    DispatchStatus status = DispatchStatus::bad_extent;
    if (tokens >= 0 && tokens <= most_tokens && experts >= 1 && limits.first >= 0 &&
        limits.first <= limits.end && limits.capacity >= 0) {
      status =
          grouping_.group(execution, routing, static_cast<std::size_t>(tokens), experts, limits);
    }
    if (status != DispatchStatus::ok) grouping_.clear();
    return status;
  }

  /// The number of the first expert: limits.first.
  int first_expert() const noexcept { return grouping_.first; }

  /// Shape (n + 1) for n experts, limits.first on: expert first_expert() + i owns assignments
  /// offsets()[i] .. offsets()[i + 1].
  std::span<const std::size_t> offsets() const noexcept { return grouping_.offsets; }

  /// Shape (A): each assignment's token.
  std::span<const std::int32_t> tokens() const noexcept { return grouping_.tokens; }

  /// Shape (A): each assignment's routing weight.
  std::span<const float> weights() const noexcept { return grouping_.weights; }

  /// What limits.capacity left no place for, in ascending order of expert, then token. Assignments
  /// of experts outside of [limits.first, limits.end) are not among them.
  std::span<const Dropped> dropped() const noexcept { return grouping_.dropped; }

  /// One token's assignments, as indices into the arrays above, in ascending order of expert.
  /// Aborts with a message if there is no such token.
  std::span<const std::size_t> assignments_of(std::ptrdiff_t token) const noexcept {
    const auto t = static_cast<std::size_t>(token);
    const std::vector<std::size_t>& ends = grouping_.token_offsets;
    detail::expects(token >= 0 && t + 1 < ends.size(), "0 <= token < the plan's tokens");
    return {grouping_.positions.data() + ends[t], ends[t + 1] - ends[t]};
  }

 private:
  static constexpr std::int64_t most_tokens = std::int64_t{1} << 31;

  static void check_extents(std::ptrdiff_t tokens, int experts, const DispatchLimits& limits) {
    const auto fail = [](const std::string& fact) { detail::refuse("DispatchPlan: ", fact); };
    if (tokens < 0 || tokens > most_tokens) {
      fail("tokens must lie in [0, " + std::to_string(most_tokens) + "], got " +
           std::to_string(tokens));
    }
    if (experts < 1) fail("experts must be at least 1, got " + std::to_string(experts));
    if (limits.first < 0 || limits.first > limits.end) {
      fail("0 <= limits.first <= limits.end must hold, got " + std::to_string(limits.first) +
           " and " + std::to_string(limits.end));
    }
    if (limits.capacity < 0)
      fail("limits.capacity must be at least 0, got " + std::to_string(limits.capacity));
  }

  template <class Form>
  static detail::Grouping::Row checked_row(const Form& routing, std::ptrdiff_t token) {
    const auto row = detail::Grouping::row_of(routing, static_cast<std::size_t>(token));
    const auto fail = [](const std::string& fact) { detail::refuse("DispatchPlan: ", fact); };
    if (!row.valid) {
      if constexpr (requires { routing.capacity; }) {
        fail("token " + std::to_string(token) + " has " + std::to_string(routing.counts[token]) +
             " of " + std::to_string(routing.capacity) + " experts");
      } else {
        fail("token " + std::to_string(token) + " owns places " +
             std::to_string(routing.offsets[token]) + " up to " +
             std::to_string(routing.offsets[token + 1]));
      }
    }
    return row;
  }

  /// Names the first id outside of [0, experts).
  template <class Form>
  static void refuse_ids(const Form& routing, std::ptrdiff_t tokens, int experts) {
    for (std::ptrdiff_t t = 0; t < tokens; ++t) {
      const auto row = checked_row(routing, t);
      for (std::size_t i = row.first; i < row.first + row.count; ++i) {
        const auto id = static_cast<std::int64_t>(routing.experts[i]);
        if (id < 0 || id >= experts)
          detail::refuse("DispatchPlan: expert id ", id, " is outside [0, ", experts, ")");
      }
    }
  }

  detail::Grouping grouping_;
};

namespace detail {

/// Asks for some bytes that are soon read.
FDROUTE_INLINE void prefetch(const void* from, std::size_t bytes) noexcept {
  const auto* at = static_cast<const char*>(from);
  for (std::size_t i = 0; i < bytes; i += 64) FDROUTE_PREFETCH(at + i);
}

}  // namespace detail

/// Sums one token's expert outputs:
///
///     out_c = sum of weights()[a] * rows[a][c] over the token's assignments a
///
/// `rows`, shape (A, width), is what the experts wrote in the plan's order; `out` has shape
/// (width). Both may be of any type that converts to and from float, as an engine's bf16. The sum
/// is made in float, in ascending order of expert, whatever the batch, and converted once: it is
/// reproducible. A token without assignments gets 0. Aborts with a message if there is no such
/// token.
template <LogitValue In, LogitValue Out>
void combine(const DispatchPlan& plan, std::ptrdiff_t token, const In* rows, Out* out,
             std::size_t width) noexcept {
  const std::span<const std::size_t> assignments = plan.assignments_of(token);
  std::array<float, 256> sums;
  for (std::size_t first = 0; first < width; first += sums.size()) {
    const std::size_t n = std::min(sums.size(), width - first);
    std::fill_n(sums.begin(), n, 0.0F);
    for (std::size_t a = 0; a < assignments.size(); ++a) {
      // No processor foresees where the next row is.
      if (a + 1 < assignments.size())
        detail::prefetch(rows + assignments[a + 1] * width + first, n * sizeof(In));
      const float weight = plan.weights()[assignments[a]];
      const In* row = rows + assignments[a] * width + first;
      for (std::size_t i = 0; i < n; ++i) sums[i] += weight * static_cast<float>(row[i]);
    }
    std::transform(sums.begin(), sums.begin() + static_cast<std::ptrdiff_t>(n), out + first,
                   [](float sum) { return static_cast<Out>(sum); });
  }
}

/// combine() of floats.
inline void combine(const DispatchPlan& plan, std::ptrdiff_t token, const float* rows,
                    std::span<float> out) noexcept {
  combine(plan, token, rows, out.data(), out.size());
}

}  // namespace fdroute::inline v0
