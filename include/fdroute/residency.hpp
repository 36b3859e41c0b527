#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "fdroute/completion.hpp"
#include "fdroute/detail/checks/check_views.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/limits.hpp"
#include "fdroute/views.hpp"

namespace fdroute::inline v0 {

// Sets of experts that cost nothing more, for Router::complete: what a batch selected, what a
// budget of loads buys, what a cache holds. Nothing here allocates. What is read of a routing is
// checked in every build: a count beyond its row or an id outside [0, experts) aborts with a
// message, as does a number of experts outside [1, max_experts].

namespace detail {

inline void expect_experts(int experts) noexcept {
  expects(experts >= 1 && experts <= max_experts, "1 <= experts <= max_experts");
}

/// use(token, place, expert) for all experts of a routing, by token and rank.
template <class Id, class Use>
void each_assignment(RoutingView<Id> routing, std::ptrdiff_t tokens, int experts,
                     const Use& use) noexcept {
  expect_experts(experts);
  for (std::ptrdiff_t t = 0; t < tokens; ++t) {
    const RoutingView<Id> row = selection_of(routing, t);
    const std::int32_t count = checked_count(row);
    for (std::int32_t i = 0; i < count; ++i)
      use(t, i, static_cast<int>(checked_id(row.experts[i], experts)));
  }
}

}  // namespace detail

/// The experts that some token of the routing selected: what a batch, or the tokens of a draft that
/// are verified together, load in any case.
template <class Id>
ExpertSet union_of(RoutingView<Id> routing, std::ptrdiff_t tokens, int experts) noexcept {
  ExpertSet set;
  detail::each_assignment(routing, tokens, experts,
                          [&](std::ptrdiff_t, std::int32_t, int expert) { set.insert(expert); });
  return set;
}

/// The experts that a budget of `budget` loads buys for a routing: the `keep` best of every token,
/// and then, as long as there are fewer than `budget`, those of the largest
///
///     w_e = sum over the tokens that selected e of e's weight
///
/// in double, added in the order of the tokens; of equal sums the lower expert first. An expert
/// that no token selected is never bought. So the set is larger than the budget only if the kept
/// experts are. NaN sums come last.
///
/// The routing is a wide one, such as each token's 8 best; to give every token its `keep` best and
/// what is bought, route with top-k `keep` and complete() with this set. Sources: D. Vankov et al.,
/// XShare (2026), arXiv:2602.07265 (a budget for the batch by summed gating scores, each token's
/// best kept); B. McDanel et al., MoE-Spec (2026), arXiv:2602.16052 (for verification).
template <class Id>
ExpertSet budget_of(RoutingView<Id> routing, std::ptrdiff_t tokens, int experts, int budget,
                    int keep = 1) noexcept {
  ExpertSet set;
  ExpertSet selected;
  std::array<double, max_experts> sums{};
  detail::each_assignment(routing, tokens, experts,
                          [&](std::ptrdiff_t t, std::int32_t place, int expert) {
                            if (place < keep) set.insert(expert);
                            selected.insert(expert);
                            sums[static_cast<std::size_t>(expert)] +=
                                static_cast<double>(routing.from(t).weights[place]);
                          });
  for (int size = set.size(); size < budget; ++size) {
    int best = -1;
    for (int e = 0; e < experts; ++e) {
      if (!selected.contains(e) || set.contains(e)) continue;
      const double sum = sums[static_cast<std::size_t>(e)];
      const double least = best < 0 ? 0.0 : sums[static_cast<std::size_t>(best)];
      if (best < 0 || sum > least || (least != least && sum == sum)) best = e;
    }
    if (best < 0) break;
    set.insert(best);
  }
  return set;
}

/// ExpertCache: which experts of a layer are loaded where there is room for `size` of them, and the
/// least recently used one leaves first.
///
/// A step uses some experts at once, as a token does. It loads those of them that are not resident;
/// afterwards the resident ones are the `size` experts that were used last. Within a step, the
/// experts that stand first are taken as used last, so that of a token with more than `size` the
/// best stay. A cache is a value of about 4 KiB, with no memory elsewhere.
class ExpertCache {
 public:
  /// An empty cache. Throws std::invalid_argument unless 1 <= size <= experts <= max_experts.
  ExpertCache(int experts, int size) : experts_(experts), room_(size) {
    if (size < 1 || size > experts || experts > max_experts) {
      detail::refuse("ExpertCache: 1 <= size <= experts <= ", max_experts, " must hold, got size ",
                     size, ", experts ", experts);
    }
  }

  int experts() const noexcept { return experts_; }

  /// The number of experts that there is room for.
  int size() const noexcept { return room_; }

  /// The experts that are loaded, at most size().
  const ExpertSet& resident() const noexcept { return resident_; }

  /// A step that uses these experts, each named once. Returns how many of them it loads. Aborts
  /// with a message for an id outside [0, experts()).
  template <class Id>
  int touch(std::span<Id> experts) noexcept {
    int loads = 0;
    for (const Id id : experts) loads += resident_.contains(index_of(id)) ? 0 : 1;
    for (std::size_t i = experts.size(); i > 0; --i) move_to_front(index_of(experts[i - 1]));
    resident_ = {};
    for (int i = 0; i < std::min(used_, room_); ++i) resident_.insert(order_[at(i)]);
    return loads;
  }

  /// A step for each token of a routing, in their order; its weights are not read. Returns the sum
  /// of the loads.
  template <class Id>
  std::int64_t touch(RoutingView<Id> routing, std::ptrdiff_t tokens) noexcept {
    std::int64_t loads = 0;
    for (std::ptrdiff_t t = 0; t < tokens; ++t) {
      const RoutingView<Id> row = detail::selection_of(routing, t);
      loads += touch(std::span<const Id>(row.experts, at(detail::checked_count(row))));
    }
    return loads;
  }

  /// Empties the cache.
  void clear() noexcept {
    used_ = 0;
    resident_ = {};
  }

 private:
  static constexpr std::size_t at(int i) noexcept { return static_cast<std::size_t>(i); }

  template <class Id>
  std::int32_t index_of(Id id) const noexcept {
    return static_cast<std::int32_t>(detail::checked_id(id, experts_));
  }

  void move_to_front(std::int32_t expert) noexcept {
    const auto end = order_.begin() + used_;
    auto place = std::find(order_.begin(), end, expert);
    if (place == end) ++used_;
    std::move_backward(order_.begin(), place, place + 1);
    order_[0] = expert;
  }

  int experts_;
  int room_;
  // All experts that were ever used, the last one first: the loaded ones are the first of them.
  std::array<std::int32_t, max_experts> order_;
  int used_ = 0;
  ExpertSet resident_;
};

}  // namespace fdroute::inline v0
