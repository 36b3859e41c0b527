#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "fdroute/detail/checks/check_policies.hpp"
#include "fdroute/detail/checks/check_views.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/limits.hpp"
#include "fdroute/views.hpp"

namespace fdroute::inline v0 {

/// TokenTable: experts by a table of token ids, as in the first layers of DeepSeek-V4; the logits
/// give the weights alone.
///
///     experts of token t = table row of token_ids[t];   weights = W(logits, these experts)
///
/// `table` has shape (vocabulary, top_k), row-major: for every token id `top_k` different experts,
/// each in [0, experts). The constructor throws std::invalid_argument otherwise, and where
/// `weights` is not valid.
///
///     const TokenTable router{256, tid2eid, 6, SqrtSoftplusWeights{.renormalize = true}};
///     router.route(logits, token_ids, out);
template <class W>
class TokenTable {
 public:
  TokenTable(int experts, std::vector<std::int32_t> table, int top_k, W weights)
      : experts_(experts), top_k_(top_k), table_(std::move(table)), weights_(std::move(weights)) {
    detail::validate_experts(experts);
    if (top_k < 1 || top_k > experts) {
      detail::refuse("TokenTable: top_k must lie in [1, ", experts,
                     "], the number of experts, got ", top_k);
    }
    const auto width = static_cast<std::size_t>(top_k);
    if (table_.empty() || table_.size() % width != 0) {
      detail::refuse("TokenTable: ", table_.size(), " ids are no rows of ", top_k);
    }
    for (std::size_t i = 0; i < table_.size(); ++i) check(i, i - i % width);
    detail::validate_policy(weights_, experts);
  }

  int experts() const noexcept { return experts_; }
  int capacity() const noexcept { return top_k_; }

  /// The number of token ids that the table has.
  int vocabulary() const noexcept { return static_cast<int>(table_.size()) / top_k_; }

  /// Routes all tokens. `logits` has shape (tokens, experts), `token_ids` (tokens); `out` is a
  /// RoutingView, a DenseView or a BitmaskView. Experts stand in the table's order. A row without a
  /// finite logit gets its experts with weight 0. Returns the union of the tokens' statuses. Aborts
  /// with a message where Router::route() does, if there is not one id a token, and for an id that
  /// the table lacks.
  template <class View>
  TokenStatus route(LogitsView<float> logits, std::span<const std::int32_t> token_ids,
                    View out) const noexcept {
    detail::expect_valid(logits, experts_);
    detail::expect_room(out, experts_, top_k_);
    detail::expects(static_cast<std::ptrdiff_t>(token_ids.size()) == logits.tokens,
                    "token_ids.size() == logits.tokens");
    TokenStatus all = TokenStatus::ok;
    for (std::ptrdiff_t t = 0; t < logits.tokens; ++t) {
      const std::int32_t id = token_ids[static_cast<std::size_t>(t)];
      detail::expects(id >= 0 && id < vocabulary(), "0 <= every token id < vocabulary()");
      all = all | route_one({logits.row(t), static_cast<std::size_t>(experts_)}, id, out.from(t));
    }
    return all;
  }

 private:
  template <class View>
  TokenStatus route_one(std::span<const float> logits, std::int32_t id,
                        const View& out) const noexcept {
    const auto width = static_cast<std::size_t>(top_k_);
    const std::span<const std::int32_t> experts(
        table_.data() + static_cast<std::size_t>(id) * width, width);
    std::array<float, max_experts> weights{};
    TokenStatus status = TokenStatus::ok;
    if (std::ranges::any_of(logits, [](float x) { return std::isnan(x); }))
      status = status | TokenStatus::has_nan;
    if (std::ranges::any_of(logits, [](float x) { return std::isfinite(x); })) {
      weights_(logits, experts, std::span<float>(weights.data(), width));
    } else {
      status = status | TokenStatus::no_finite_logit;
    }
    detail::write_row(out, {experts, weights.data(), experts.front(), status}, experts_);
    return status;
  }

  void check(std::size_t i, std::size_t begin) const {
    const std::int32_t id = table_[i];
    const auto row = table_.begin();
    if (id < 0 || id >= experts_) {
      detail::refuse("TokenTable: expert ", id, " of token ", i / static_cast<std::size_t>(top_k_),
                     " must lie in [0, ", experts_, ")");
    }
    const auto end = row + static_cast<std::ptrdiff_t>(i);
    if (std::find(row + static_cast<std::ptrdiff_t>(begin), end, id) != end) {
      detail::refuse("TokenTable: token ", i / static_cast<std::size_t>(top_k_), " has expert ", id,
                     " twice");
    }
  }

  int experts_;
  int top_k_;
  std::vector<std::int32_t> table_;  // (vocabulary, top_k)
  W weights_;
};

}  // namespace fdroute::inline v0
