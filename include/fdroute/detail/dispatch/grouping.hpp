#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "fdroute/dispatch_limits.hpp"
#include "fdroute/execution.hpp"
#include "fdroute/views.hpp"

namespace fdroute::inline v0::detail {

/// An assignment that found no place.
struct DroppedAssignment {
  std::int32_t token;
  std::int32_t expert;
  float weight;
  friend bool operator==(const DroppedAssignment&, const DroppedAssignment&) = default;
};

/// What a DispatchPlan holds, and how it is made: a sort by counting, in parts of the tokens.
class Grouping {
 public:
  /// DispatchPlan::reserve().
  void reserve(std::ptrdiff_t most_tokens, std::ptrdiff_t most_assignments, int most_experts) {
    const auto n_tokens = static_cast<std::size_t>(std::max<std::ptrdiff_t>(most_tokens, 0));
    const auto n = static_cast<std::size_t>(std::max<std::ptrdiff_t>(most_assignments, 0));
    const auto n_experts = static_cast<std::size_t>(std::max(most_experts, 0));
    offsets.reserve(n_experts + 1);
    next_.reserve(parts_of(n_tokens) * n_experts);
    token_offsets.reserve(n_tokens + 1);
    for (auto* by_assignment : {&positions, &moved_}) by_assignment->reserve(n);
    tokens.reserve(n);
    weights.reserve(n);
    dropped.reserve(n);
    room_ = std::max(room_, n);
  }

  /// Fills in everything, from extents that are valid.
  template <class E, class Form>
  DispatchStatus group(const E& execution, const Form& routing, std::size_t n_tokens, int experts,
                       const DispatchLimits& limits) noexcept {
    const int end = std::max(limits.first, std::min(limits.end, experts));
    first = limits.first;
    const auto n = static_cast<std::size_t>(end - limits.first);
    const std::size_t parts = std::same_as<E, Serial> ? 1 : parts_of(n_tokens);
    if (n + 1 > offsets.capacity() || parts * n > next_.capacity() ||
        n_tokens + 1 > token_offsets.capacity())
      return DispatchStatus::no_room;
    // Calls visit(token, expert, place) for what a part's tokens have within the range.
    const auto visit_part = [&](std::size_t part, const auto& visit) {
      for (std::size_t t = part * n_tokens / parts; t < (part + 1) * n_tokens / parts; ++t) {
        const Row row = row_of(routing, t);
        for (std::size_t i = row.first; i < row.first + row.count; ++i) {
          const auto id = static_cast<std::int64_t>(routing.experts[i]);
          if (id >= limits.first && id < end)
            visit(t, static_cast<std::size_t>(id - limits.first), i);
        }
      }
    };

    if (const DispatchStatus status = check(execution, routing, n_tokens, experts, parts);
        status != DispatchStatus::ok)
      return status;
    next_.assign(parts * n, 0);
    token_offsets.assign(n_tokens + 1, 0);
    for_each(execution, parts, [&](std::size_t part) {
      visit_part(part, [&](std::size_t t, std::size_t expert, std::size_t) {
        ++next_[part * n + expert];
        ++token_offsets[t + 1];
      });
    });
    accumulate(token_offsets);
    offsets.assign(n + 1, 0);
    for (std::size_t e = 0; e < n; ++e) {
      offsets[e + 1] = offsets[e];
      for (std::size_t part = 0; part < parts; ++part) {
        const std::size_t count = next_[part * n + e];
        next_[part * n + e] = offsets[e + 1];
        offsets[e + 1] += count;
      }
    }
    const std::size_t all = offsets[n];
    if (all > room_) return DispatchStatus::no_room;

    tokens.resize(all);
    weights.resize(all);
    positions.resize(all);
    for_each(execution, parts, [&](std::size_t part) {
      visit_part(part, [&](std::size_t t, std::size_t expert, std::size_t place) {
        const std::size_t position = next_[part * n + expert]++;
        tokens[position] = static_cast<std::int32_t>(t);
        weights[position] = routing.weights[place];
      });
    });
    // A part's assignments to an expert stand between the ends of those of the part before and of
    // its own. Taken by expert, they fill their tokens' positions in ascending order.
    for_each(execution, parts, [&](std::size_t part) {
      for (std::size_t e = 0; e < n; ++e) {
        std::size_t i = part == 0 ? offsets[e] : next_[(part - 1) * n + e];
        for (; i < next_[part * n + e]; ++i)
          positions[token_offsets[static_cast<std::size_t>(tokens[i])]++] = i;
      }
    });
    // Where a token's positions end, those of the next one begin.
    std::copy_backward(token_offsets.begin(), token_offsets.end() - 1, token_offsets.end());
    token_offsets[0] = 0;
    dropped.clear();
    const auto most = static_cast<std::size_t>(limits.capacity);
    bool too_many = false;
    for (std::size_t e = 0; e < n; ++e) too_many |= offsets[e + 1] - offsets[e] > most;
    if (too_many) drop(execution, most, limits.drop);
    return DispatchStatus::ok;
  }

  /// A plan of no expert and no token.
  void clear() noexcept {
    for (auto* numbers : {&offsets, &token_offsets, &positions}) numbers->clear();
    tokens.clear();
    weights.clear();
    dropped.clear();
  }

  /// Where a token's experts stand in the arrays of a routing.
  struct Row {
    std::size_t first;
    std::size_t count;
    bool valid;
  };

  template <class Id>
  static Row row_of(const RoutingView<Id>& routing, std::size_t token) noexcept {
    const std::int32_t count = routing.counts[token];
    return {token * static_cast<std::size_t>(routing.capacity), static_cast<std::size_t>(count),
            count >= 0 && count <= routing.capacity};
  }

  template <class Id>
  static Row row_of(const CsrView<Id>& routing, std::size_t token) noexcept {
    const std::int64_t begin = routing.offsets[token];
    const std::int64_t end = routing.offsets[token + 1];
    return {static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin),
            begin >= 0 && begin <= end};
  }

  int first = 0;
  std::vector<std::size_t> offsets;        // (experts of the range + 1)
  std::vector<std::size_t> token_offsets;  // (tokens + 1), into positions
  std::vector<std::size_t> positions;      // (A), by token
  std::vector<std::int32_t> tokens;        // (A)
  std::vector<float> weights;              // (A)
  std::vector<DroppedAssignment> dropped;

 private:
  static constexpr std::size_t gone = std::numeric_limits<std::size_t>::max();

  // Tokens are taken in parts, each with places of its own within every expert.
  static constexpr std::size_t tokens_of_part = 256;
  static std::size_t parts_of(std::size_t tokens) noexcept {
    return std::clamp<std::size_t>(tokens / tokens_of_part, 1, 64);
  }

  static void accumulate(std::vector<std::size_t>& counts) noexcept {
    for (std::size_t i = 1; i < counts.size(); ++i) counts[i] += counts[i - 1];
  }

  /// Calls body(i) for i in [0, n), by the execution.
  template <class E, class Body>
  static void for_each(const E& execution, std::size_t n, const Body& body) noexcept {
    execution.for_each(static_cast<std::ptrdiff_t>(n), [&](std::ptrdiff_t i) noexcept {
      body(static_cast<std::size_t>(i));
      return TokenStatus::ok;
    });
  }

  template <class E, class Form>
  static DispatchStatus check(const E& execution, const Form& routing, std::size_t n_tokens,
                              int experts, std::size_t parts) noexcept {
    std::atomic<bool> bad_count{false};
    std::atomic<bool> bad_id{false};
    for_each(execution, parts, [&](std::size_t part) {
      for (std::size_t t = part * n_tokens / parts; t < (part + 1) * n_tokens / parts; ++t) {
        const Row row = row_of(routing, t);
        if (!row.valid) {
          bad_count = true;
          return;
        }
        for (std::size_t i = row.first; i < row.first + row.count; ++i) {
          const auto id = static_cast<std::int64_t>(routing.experts[i]);
          if (id < 0 || id >= experts) bad_id = true;
        }
      }
    });
    return bad_count ? DispatchStatus::bad_count
           : bad_id  ? DispatchStatus::bad_id
                     : DispatchStatus::ok;
  }

  /// Moves what exceeds an expert's `most` tokens to dropped, and the rest together.
  template <class E>
  void drop(const E& execution, std::size_t most, Drop which) noexcept {
    const std::size_t n = offsets.size() - 1;
    moved_.resize(tokens.size());  // first 0 for what is kept and `gone`, then the new positions
    for_each(execution, n,
             [&](std::size_t e) { mark_dropped(offsets[e], offsets[e + 1], most, which); });
    std::size_t kept = 0;
    for (std::size_t e = 0; e < n; ++e) {
      const std::size_t begin = kept;
      for (std::size_t i = offsets[e]; i < offsets[e + 1]; ++i) {
        if (moved_[i] == gone) {
          dropped.push_back({tokens[i], static_cast<std::int32_t>(e) + first, weights[i]});
          continue;
        }
        tokens[kept] = tokens[i];
        weights[kept] = weights[i];
        moved_[i] = kept++;
      }
      offsets[e] = begin;
    }
    offsets[n] = kept;
    tokens.resize(kept);
    weights.resize(kept);
    std::size_t filled = 0;
    std::size_t from = 0;
    for (std::size_t t = 0; t + 1 < token_offsets.size(); ++t) {
      const std::size_t end = token_offsets[t + 1];
      for (; from < end; ++from)
        if (moved_[positions[from]] != gone) positions[filled++] = moved_[positions[from]];
      token_offsets[t + 1] = filled;
    }
    positions.resize(filled);
  }

  /// Fills in moved_ for one expert's assignments [begin, end).
  void mark_dropped(std::size_t begin, std::size_t end, std::size_t most, Drop which) noexcept {
    const auto at = [&](std::size_t i) { return moved_.begin() + static_cast<std::ptrdiff_t>(i); };
    std::fill(at(begin), at(end), most == 0 ? gone : 0);
    if (end - begin <= most || most == 0) return;
    if (which == Drop::last) {
      std::fill(at(begin + most), at(end), gone);
      return;
    }
    const auto weight = [&](std::size_t i) {
      return std::isnan(weights[i]) ? -std::numeric_limits<float>::infinity() : weights[i];
    };
    const auto goes_before = [&](std::size_t a, std::size_t b) {
      return weight(a) > weight(b) || (weight(a) == weight(b) && a < b);
    };
    std::iota(at(begin), at(end), begin);
    std::nth_element(at(begin), at(begin + most - 1), at(end), goes_before);
    const std::size_t last_kept = moved_[begin + most - 1];
    for (std::size_t i = begin; i < end; ++i) moved_[i] = goes_before(last_kept, i) ? gone : 0;
  }

  std::size_t room_ = 0;            // for assignments
  std::vector<std::size_t> next_;   // (parts, experts of the range): scratch
  std::vector<std::size_t> moved_;  // (A): scratch
};

}  // namespace fdroute::inline v0::detail
