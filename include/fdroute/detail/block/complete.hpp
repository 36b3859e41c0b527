#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "fdroute/completion.hpp"
#include "fdroute/detail/block/gather.hpp"
#include "fdroute/detail/block/policy_kernels.hpp"
#include "fdroute/detail/block/rank.hpp"
#include "fdroute/detail/block/route_block.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/block/weigh.hpp"
#include "fdroute/detail/block/write.hpp"
#include "fdroute/detail/checks/check_views.hpp"
#include "fdroute/detail/row/route_row.hpp"
#include "fdroute/views.hpp"

// The completion of routings, see Router::complete: complete_row() is the definition, and
// BlockCompleter has its result by kernels, where there are.

namespace fdroute::inline v0::detail {

/// Completes one token's row, which is the view's first, as defined.
template <class T, class Id>
[[gnu::noinline]] void complete_row(const ErasedRouter& router, const T* logits,
                                    const std::uint64_t* resident, Completion completion,
                                    RoutingView<Id> out) noexcept {
  const auto experts = static_cast<std::size_t>(router.experts);
  std::array<float, max_experts> floats;
  std::transform(logits, logits + experts, floats.begin(),
                 [](const T& x) { return static_cast<float>(x); });
  const std::span<const float> row_of_logits(floats.data(), experts);
  const int count = checked_count(out);
  ExpertSet selected;
  for (int i = 0; i < count; ++i)
    selected.insert(static_cast<int>(checked_id(out.experts[i], router.experts)));

  RoutedRow row;
  const int allowed = router.calls->order(router.parts, row_of_logits, row);
  if (allowed == 0) return;
  const std::int32_t best = row.experts[0];
  const int in_window = std::min(completion.window, allowed);
  int room = completion.max_k - count;
  std::size_t kept = 0;
  for (int i = 0; i < router.experts; ++i) {
    const std::int32_t expert = row.experts[static_cast<std::size_t>(i)];
    const bool is_selected = selected.contains(expert);
    const bool added = !is_selected && room > 0 && i < in_window && has_bit(resident, expert);
    if (added) --room;
    if (added || is_selected) row.experts[kept++] = expert;
  }
  if (kept == static_cast<std::size_t>(count)) return;
  const std::span<const std::int32_t> completed(row.experts.data(), kept);
  router.calls->weigh(router.parts, row_of_logits, completed, {row.weights.data(), kept});
  write_row(out, {completed, row.weights.data(), best, row.status}, router.experts);
}

/// The completion of a block of tokens, in passes as BlockRouter's. Selected experts are taken out
/// of the rows, so that few are left to rank: the best of the window that are not selected yet.
template <class Arch>
class BlockCompleter {
 public:
  /// Completes at most router.block_tokens() tokens. Defined outside, see BlockRouter::route().
  template <class T, class Id>
  static void complete(const ErasedRouter& router, LogitsView<T> logits, Residency resident,
                       Completion completion, RoutingView<Id> out) noexcept;

 private:
  BlockCompleter(const ErasedRouter& router, Residency resident, Completion completion,
                 TokenBlock& block, TokenBlock& rest) noexcept
      : router_(router),
        resident_(resident),
        completion_(completion),
        window_(std::min(completion.window, router.experts)),
        block_(block),
        rest_(rest) {}

  static constexpr std::size_t at(int i) noexcept { return static_cast<std::size_t>(i); }

  /// Whether a weight is its exp times that of the best expert, whose own exp is 1: then selected
  /// experts keep their weights, and no sum is needed.
  static bool weighs_by_first(const ErasedRouter& router) noexcept {
    return router.weighs_by_all() && router.weights.factor == 1.0F && router.keys_are_logits;
  }

  FDROUTE_KERNEL static void copy_rows(const TokenBlock& block, TokenBlock& rest) noexcept {
    rest.ordinary = block.ordinary;
    for (int t = 0; t < block.tokens; ++t) {
      float* to = rest.copy_of(t);
      const float* from = block.rows[at(t)];
      for (int i = 0; i < block.stride_64; i += 16)
        Floats<Arch>::load_anywhere(from + i).store(to + i);
      rest.rows[at(t)] = to;
    }
  }

  template <class T, class Id>
  void complete_loaded(LogitsView<T> logits, RoutingView<Id> out) noexcept {
    for (int t = 0; t < rest_.tokens; ++t) take_out_selected(t, out.from(t));
    rest_.set_size.fill(-1);
    rank_best<Arch>(rest_, false);
    const bool by_first = weighs_by_first(router_);
    std::uint32_t to_weigh = 0;
    for (int t = 0; t < rest_.tokens; ++t) {
      if (closed_ >> t & 1U) continue;
      const int n = add(t, out.from(t));
      if (n < 0) [[unlikely]] {
        rest_.candidates[at(t)] = 0;
        complete_row(router_, logits.row(t), resident_.mask_of(t), completion_, out.from(t));
      } else if (n == 0) {
        rest_.candidates[at(t)] = 0;
      } else if (by_first) {
        append(t, n, out.from(t));
      } else {
        join(t, n, out.from(t));
        to_weigh |= std::uint32_t{1} << t;
      }
    }
    if (to_weigh != 0) write<Id>(to_weigh, out);
  }

  /// Takes a token's selected experts out of its row of keys. A token with max_k of them is closed.
  template <class Id>
  FDROUTE_INLINE void take_out_selected(int t, RoutingView<Id> row) noexcept {
    const int count = checked_count(row);
    selected_[at(t)] = count;
    rest_.count[at(t)] = std::max(window_ - count, 1);
    if (count >= completion_.max_k) {
      closed_ |= std::uint32_t{1} << t;
      rest_.ordinary[at(t)] = false;
    }
    if (!rest_.ordinary[at(t)]) return;
    float* keys = rest_.copy_of(t);
    for (int i = 0; i < count; ++i) {
      const std::int64_t expert = checked_id(row.experts[i], router_.experts);
      last_key_[at(t)] = keys[expert];
      keys[expert] = -std::numeric_limits<float>::infinity();
    }
  }

  /// Makes the resident ones of a token's ranked experts its candidates, as many as there is room
  /// for, and returns their number; -1 if the definition must do it: where kernels do not rank the
  /// row, and where the selected experts are not the best of all.
  template <class Id>
  FDROUTE_INLINE int add(int t, RoutingView<Id> row) noexcept {
    const int candidates = rest_.candidates[at(t)];
    const int count = selected_[at(t)];
    if (candidates == 0 || candidates > TokenBlock::most_listed || count == 0) return -1;
    std::int32_t* ranked = rest_.ranked_of(t);
    const float best_key = rest_.rows[at(t)][ranked[0]];
    const auto last = static_cast<std::int64_t>(row.experts[count - 1]);
    if (best_key > last_key_[at(t)] || (best_key == last_key_[at(t)] && last > ranked[0]))
      return -1;
    const std::uint64_t* resident = resident_.mask_of(t);
    const int room = completion_.max_k - count;
    int n = 0;
    for (int i = 0; i < window_ - count; ++i) {
      const auto expert = static_cast<std::uint32_t>(ranked[i]);
      const auto is_resident = static_cast<int>(resident[expert / 64] >> (expert % 64) & 1U);
      ranked[n] = ranked[i];
      n += is_resident & static_cast<int>(n < room);
    }
    return n;
  }

  /// Writes n more experts of a token behind its selected ones, whose weights stay.
  template <class Id>
  FDROUTE_INLINE void append(int t, int n, RoutingView<Id> row) const noexcept {
    constexpr std::size_t least = std::max(std::size_t{8}, Floats<Arch>::width);
    if (n <= 8) return append_lanes<least>(t, n, row);
    append_lanes<16>(t, n, row);
  }

  template <std::size_t lanes, class Id>
  FDROUTE_INLINE void append_lanes(int t, int n, RoutingView<Id> row) const noexcept {
    using Lane = Floats<Arch, lanes>;
    using Int = Lanes<std::int32_t, Arch, lanes>;
    const int count = selected_[at(t)];
    const float* logits = block_.rows[at(t)];
    const std::int32_t* added = rest_.ranked_of(t);
    const auto ids = choose(Int(n) > Int::load(lane_numbers.data()), Int::load(added), Int(0));
    Lane x = block_.stride_64 == 64 ? pick(logits, ids) : gather(logits, ids);
    float largest = logits[row.experts[0]];
    if (!(std::abs(largest) <= ExpOfDifference<Arch>::limit)) [[unlikely]] {
      x = x - Lane(largest);
      largest = 0.0F;
    }
    const Lane weights = ExpOfDifference<Arch>(largest)(x) * Lane(row.weights[0]);
    weights.store_first(n, row.weights + count);
    if constexpr (std::same_as<Id, std::int32_t>) {
      ids.store_first(n, row.experts + count);
    } else {
      for (int i = 0; i < n; ++i) row.experts[count + i] = static_cast<Id>(added[i]);
    }
    *row.counts = count + n;
  }

  /// Puts a token's selected experts before the n added ones, for weigh_ranked(), or for write() to
  /// do it all if they are too many.
  template <class Id>
  FDROUTE_INLINE void join(int t, int n, RoutingView<Id> row) noexcept {
    const int count = selected_[at(t)];
    std::int32_t* ranked = rest_.ranked_of(t);
    rest_.count[at(t)] = n;
    rest_.candidates[at(t)] = 0;
    if (router_.weights.of == WeightRecipe::Of::other || count + n > TokenBlock::most_listed)
      return;
    std::copy_backward(ranked, ranked + n, ranked + count + n);
    for (int i = 0; i < count; ++i) ranked[i] = static_cast<std::int32_t>(row.experts[i]);
    rest_.count[at(t)] = count + n;
    rest_.candidates[at(t)] = count + n;
  }

  template <class Id>
  void write(std::uint32_t tokens, RoutingView<Id> out) noexcept {
    if (router_.weights.of != WeightRecipe::Of::other) {
      if (router_.weighs_by_all()) take_exps<Arch>(block_);
      weigh_ranked<Arch>(block_, router_.weights, rest_);
    }
    for (; tokens != 0; tokens &= tokens - 1) {
      const int t = std::countr_zero(tokens);
      const auto row = out.from(t);
      const std::int32_t* ranked = rest_.ranked_of(t);
      if (rest_.candidates[at(t)] != 0) {
        write_row(row, {{ranked, at(rest_.count[at(t)])}, rest_.weights_of(t), ranked[0]},
                  router_.experts);
        continue;
      }
      RoutedRow listed;
      const auto count = at(selected_[at(t)]);
      std::transform(row.experts, row.experts + count, listed.experts.begin(),
                     [](Id id) { return static_cast<std::int32_t>(id); });
      std::copy_n(ranked, rest_.count[at(t)], listed.experts.begin() + count);
      const std::span<const std::int32_t> experts(listed.experts.data(),
                                                  count + at(rest_.count[at(t)]));
      router_.calls->weigh(router_.parts, {block_.rows[at(t)], at(router_.experts)}, experts,
                           {listed.weights.data(), experts.size()});
      write_row(row, {experts, listed.weights.data(), experts[0]}, router_.experts);
    }
  }

  const ErasedRouter& router_;
  Residency resident_;
  Completion completion_;
  int window_;
  TokenBlock& block_;  // of the logits
  TokenBlock& rest_;   // of the keys, without the selected experts
  std::uint32_t closed_ = 0;
  TokenBlock::PerToken<int> selected_{};
  TokenBlock::PerToken<float> last_key_{};  // of the selected expert that was listed last
};

template <class Arch>
template <class T, class Id>
[[gnu::noinline]] void BlockCompleter<Arch>::complete(const ErasedRouter& router,
                                                      LogitsView<T> logits, Residency resident,
                                                      Completion completion,
                                                      RoutingView<Id> out) noexcept {
  // By mass, the weight of one expert depends on all that are selected and on mass_k others.
  if (!router.has_kernels || router.ranks || router.weights.of == WeightRecipe::Of::mass)
      [[unlikely]] {
    for (int t = 0; t < logits.tokens; ++t)
      complete_row(router, logits.row(t), resident.mask_of(t), completion, out.from(t));
    return;
  }
  TokenBlock block(static_cast<int>(logits.tokens), router.experts);
  TokenBlock rest(block.tokens, router.experts);
  if (router.weighs_by_all() && !weighs_by_first(router)) {
    load_rows<Arch, true>(block, logits);
  } else {
    load_rows<Arch, false>(block, logits);
  }
  if (router.keys_are_logits) {
    copy_rows(block, rest);
  } else {
    rank_experts<Arch>(router, block, rest);
  }
  BlockCompleter(router, resident, completion, block, rest).complete_loaded(logits, out);
}

/// complete() of a block of a BatchView: `complete_rows(LogitsView<float>, first)` completes rows.
/// A masked expert has logit -inf, and a skipped token, which no expert may complete, has no other.
template <class T, class CompleteRows>
void complete_gathered(int experts, const BatchView<T>& batch,
                       const CompleteRows& complete_rows) noexcept {
  alignas(64) std::array<float, TokenBlock::max_floats> rows;
  for (std::ptrdiff_t t = 0; t < batch.tokens; ++t) {
    float* row = rows.data() + t * experts;
    if (batch.skips(t)) {
      std::fill_n(row, experts, -std::numeric_limits<float>::infinity());
    } else {
      gather_row(batch, t, nullptr, row);
    }
  }
  complete_rows(LogitsView<float>(rows.data(), batch.tokens, experts));
}

/// Completes the tokens in blocks of `block`, each by complete_block(logits, resident, view).
template <class E, class Logits, class Id, class CompleteBlock>
void complete_blocks(const E& execution, std::ptrdiff_t block, Logits logits, Residency resident,
                     RoutingView<Id> out, const CompleteBlock& complete_block) noexcept {
  execution.for_each((logits.tokens + block - 1) / block, [&](std::ptrdiff_t i) noexcept {
    const std::ptrdiff_t first = i * block;
    const std::ptrdiff_t tokens = std::min(block, logits.tokens - first);
    complete_block(logits.slice(first, tokens), resident.from(first), out.from(first));
    return TokenStatus::ok;
  });
}

}  // namespace fdroute::inline v0::detail
