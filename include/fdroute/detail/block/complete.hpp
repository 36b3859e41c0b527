#pragma once

#include <algorithm>
#include <array>
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
#include "fdroute/detail/row/write_row.hpp"
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

/// The completion of a block of tokens.
template <class Arch>
class BlockCompleter {
 public:
  /// Completes at most router.block_tokens() tokens.
  template <class T, class Id>
  [[gnu::noinline]] static void complete(const ErasedRouter& router, LogitsView<T> logits,
                                         Residency resident, Completion completion,
                                         RoutingView<Id> out) noexcept {
    if (!router.has_kernels || router.calls->ranks) [[unlikely]] {
      for (int t = 0; t < logits.tokens; ++t)
        complete_row(router, logits.row(t), resident.mask_of(t), completion, out.from(t));
      return;
    }
    TokenBlock block(static_cast<int>(logits.tokens), router.experts);
    if (router.weighs_by_all()) {
      load_rows<Arch, true>(block, logits);
    } else {
      load_rows<Arch, false>(block, logits);
    }
    const BlockCompleter completer(router, resident, completion);
    if (router.keys_are_logits) return completer.complete_loaded(logits, block, block, out);
    by_keys(completer, logits, block, out);
  }

 private:
  BlockCompleter(const ErasedRouter& router, Residency resident, Completion completion) noexcept
      : router_(router),
        resident_(resident),
        completion_(completion),
        window_(std::min(completion.window, router.experts)) {}

  static constexpr std::size_t at(int i) noexcept { return static_cast<std::size_t>(i); }

  // A function of its own so that no other completion has its memory on the stack.
  template <class T, class Id>
  [[gnu::noinline]] static void by_keys(const BlockCompleter& completer, LogitsView<T> logits,
                                        TokenBlock& block, RoutingView<Id> out) noexcept {
    TokenBlock keys(block.tokens, block.experts);
    rank_experts<Arch>(completer.router_, block, keys);
    completer.complete_loaded(logits, block, keys, out);
  }

  template <class T, class Id>
  void complete_loaded(LogitsView<T> logits, TokenBlock& block, TokenBlock& keys,
                       RoutingView<Id> out) const noexcept {
    keys.set_size.fill(-1);
    keys.count.fill(window_);
    rank_best<Arch>(keys, false);
    for (int t = 0; t < keys.tokens; ++t) {
      int& candidates = keys.candidates[at(t)];
      const bool decided =
          0 < candidates && candidates <= TokenBlock::most_listed && keep(keys, t, out.from(t));
      if (decided) continue;
      candidates = 0;
      complete_row(router_, logits.row(t), resident_.mask_of(t), completion_, out.from(t));
    }
    write<Id>(block, keys, out);
  }

  /// Makes a token's ranked experts, the best of its window, the completed ones, and `count` their
  /// number; clears `candidates` if none is added. Returns false if the selected experts are not
  /// the first of the ranked ones, or none.
  template <class Id>
  FDROUTE_INLINE bool keep(TokenBlock& keys, int t, RoutingView<Id> row) const noexcept {
    const int count = checked_count(row);
    const std::uint64_t* resident = resident_.mask_of(t);
    std::int32_t* ranked = keys.ranked_of(t);
    int kept = 0;
    bool first_ones = count > 0;
    for (int i = 0; i < window_; ++i) {
      const std::int32_t expert = ranked[i];
      const bool selected = i < count;
      if (selected) first_ones &= static_cast<std::int64_t>(row.experts[i]) == expert;
      ranked[kept] = expert;
      kept += static_cast<int>(selected || (kept < completion_.max_k && has_bit(resident, expert)));
    }
    keys.count[at(t)] = kept;
    if (kept <= count) keys.candidates[at(t)] = 0;
    return first_ones;
  }

  template <class Id>
  void write(TokenBlock& block, TokenBlock& keys, RoutingView<Id> out) const noexcept {
    const bool by_kernel = router_.weights.of != WeightRecipe::Of::other;
    if (by_kernel) {
      if (router_.weighs_by_all()) take_exps<Arch>(block);
      weigh_ranked<Arch>(block, router_.weights, keys);
    }
    for (int t = 0; t < keys.tokens; ++t) {
      if (keys.candidates[at(t)] == 0) continue;
      const std::span<const std::int32_t> experts(keys.ranked_of(t), at(keys.count[at(t)]));
      if (!by_kernel) {
        const std::span row(block.rows[at(t)], at(router_.experts));
        router_.calls->weigh(router_.parts, row, experts, {keys.weights_of(t), experts.size()});
      }
      write_row(out.from(t), {experts, keys.weights_of(t), experts[0]}, router_.experts);
    }
  }

  const ErasedRouter& router_;
  Residency resident_;
  Completion completion_;
  int window_;
};

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
