#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fdroute/errors.hpp"
#include "fdroute/limits.hpp"
#include "fdroute/views.hpp"

namespace fdroute::inline v0 {

/// DispatchPlan: a routing regrouped by expert, so that each expert runs once over all its tokens.
///
/// The assignments (token, expert, weight) stand in ascending order of expert, and of token within
/// an expert. Let A be their number, the sum of the counts. An engine gathers the rows `tokens()`
/// of the hidden states into a matrix (A, hidden), runs expert e on rows offsets()[e] ..
/// offsets()[e + 1], and lets combine() sum the results back. The object keeps its memory from one
/// build to the next.
class DispatchPlan {
 public:
  /// Regroups a padded routing of `tokens` tokens over `experts` experts. Padding is skipped by
  /// `counts`. Throws std::invalid_argument if an id is outside [0, experts), a count outside [0,
  /// routing.capacity], `experts` below 1 or `tokens` outside [0, 2^31], as token numbers are
  /// std::int32_t; std::bad_alloc.
  template <class Id>
  void build(RoutingView<Id> routing, std::ptrdiff_t tokens, int experts) {
    constexpr std::int64_t most_tokens = std::int64_t{1} << 31;
    if (tokens < 0 || tokens > most_tokens) {
      detail::refuse("DispatchPlan: tokens must lie in [0, " + std::to_string(most_tokens) +
                     "], got " + std::to_string(tokens));
    }
    if (experts < 1) {
      detail::refuse("DispatchPlan: experts must be at least 1, got " + std::to_string(experts));
    }
    const auto n_tokens = static_cast<std::size_t>(tokens);
    offsets_.assign(static_cast<std::size_t>(experts) + 1, 0);
    token_offsets_.assign(n_tokens + 1, 0);
    for_each(routing, n_tokens, [&](std::size_t token, std::size_t place) {
      const auto id = static_cast<std::int64_t>(routing.experts[place]);
      if (id < 0 || id >= experts) {
        detail::refuse("DispatchPlan: expert id " + std::to_string(id) + " is outside [0, " +
                       std::to_string(experts) + ")");
      }
      ++offsets_[static_cast<std::size_t>(id) + 1];
      ++token_offsets_[token + 1];
    });
    accumulate(offsets_);
    accumulate(token_offsets_);

    tokens_.resize(offsets_.back());
    weights_.resize(offsets_.back());
    positions_.resize(offsets_.back());
    next_.assign(offsets_.begin(), offsets_.end() - 1);
    for_each(routing, n_tokens, [&](std::size_t token, std::size_t place) {
      const std::size_t position = next_[static_cast<std::size_t>(routing.experts[place])]++;
      tokens_[position] = static_cast<std::int32_t>(token);
      weights_[position] = routing.weights[place];
    });
    next_.assign(token_offsets_.begin(), token_offsets_.end() - 1);
    for (std::size_t position = 0; position < tokens_.size(); ++position)
      positions_[next_[static_cast<std::size_t>(tokens_[position])]++] = position;
  }

  /// Shape (experts + 1): expert e owns assignments offsets()[e] .. offsets()[e + 1].
  std::span<const std::size_t> offsets() const noexcept { return offsets_; }

  /// Shape (A): each assignment's token.
  std::span<const std::int32_t> tokens() const noexcept { return tokens_; }

  /// Shape (A): each assignment's routing weight.
  std::span<const float> weights() const noexcept { return weights_; }

  /// One token's assignments, as indices into the arrays above, in ascending order of expert.
  /// Aborts with a message if there is no such token.
  std::span<const std::size_t> assignments_of(std::ptrdiff_t token) const noexcept {
    const auto t = static_cast<std::size_t>(token);
    detail::expects(token >= 0 && t + 1 < token_offsets_.size(), "0 <= token < the plan's tokens");
    return {positions_.data() + token_offsets_[t], token_offsets_[t + 1] - token_offsets_[t]};
  }

 private:
  template <class Id, class Visit>
  static void for_each(RoutingView<Id> routing, std::size_t tokens, const Visit& visit) {
    for (std::size_t token = 0; token < tokens; ++token) {
      const std::size_t row = token * static_cast<std::size_t>(routing.capacity);
      if (routing.counts[token] < 0 || routing.counts[token] > routing.capacity) {
        detail::refuse("DispatchPlan: token " + std::to_string(token) + " has " +
                       std::to_string(routing.counts[token]) + " of " +
                       std::to_string(routing.capacity) + " experts");
      }
      const auto count = static_cast<std::size_t>(routing.counts[token]);
      for (std::size_t i = 0; i < count; ++i) visit(token, row + i);
    }
  }

  static void accumulate(std::vector<std::size_t>& counts) {
    for (std::size_t i = 1; i < counts.size(); ++i) counts[i] += counts[i - 1];
  }

  std::vector<std::size_t> offsets_;        // (experts + 1)
  std::vector<std::size_t> token_offsets_;  // (tokens + 1), into positions_
  std::vector<std::size_t> positions_;      // (A)
  std::vector<std::size_t> next_;           // scratch
  std::vector<std::int32_t> tokens_;        // (A)
  std::vector<float> weights_;              // (A)
};

/// Sums one token's expert outputs:
///
///     out_c = sum of weights()[a] * rows[a][c] over the token's assignments a
///
/// `rows`, shape (A, width), is what the experts wrote in the plan's order; `out` has shape
/// (width). The sum is made in float, in ascending order of expert, whatever the batch: it is
/// reproducible. A token without assignments gets 0. Aborts with a message if there is no such
/// token.
inline void combine(const DispatchPlan& plan, std::ptrdiff_t token, const float* rows,
                    std::span<float> out) noexcept {
  std::fill(out.begin(), out.end(), 0.0F);
  for (const std::size_t position : plan.assignments_of(token)) {
    const float weight = plan.weights()[position];
    const float* row = rows + position * out.size();
    for (std::size_t i = 0; i < out.size(); ++i) out[i] += weight * row[i];
  }
}

}  // namespace fdroute::inline v0
