#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

#include "fdroute/bounds.hpp"
#include "fdroute/concepts.hpp"
#include "fdroute/detail/block/scores.hpp"
#include "fdroute/detail/block/sets.hpp"
#include "fdroute/detail/block/sort.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/rule/survival_table.hpp"

// Counts by rules that read the p-values.

namespace fdroute::inline v0::detail {

/// The smallest p-values of a block's tokens in ascending order, a row of `stride` for each.
struct PValues {
  explicit PValues(int first) noexcept : stride(padded_to(16, first)) {}

  double* of(int token) noexcept { return values.data() + std::ptrdiff_t{token} * stride; }
  const double* of(int token) const noexcept {
    return values.data() + std::ptrdiff_t{token} * stride;
  }

  const int stride;
  alignas(64) std::array<double, TokenBlock::max_floats> values;
};

/// How many of the smallest p-values a rule reads: all of them unless it says otherwise.
template <class R>
constexpr int p_values_needed(const R& rule, int experts) noexcept {
  if constexpr (kernel_of<R> == Kernel::smallest_p || kernel_of<R> == Kernel::vectors_of_p) {
    return rule.reads(experts);
  } else {
    return experts;
  }
}

/// Fills in p-values from sorted rows of logits.
template <class Arch>
FDROUTE_KERNEL void p_from_table(const TokenBlock& block, const SurvivalTable& null, MapKind kind,
                                 PValues& p) noexcept {
  for (int t = 0; t < block.tokens; ++t) {
    const float* sorted = block.scores_of(t);
    const ScoreMap& map = block.map[static_cast<std::size_t>(t)];
    for (int i = 0; i < p.stride; i += 16)
      widen(score(Floats<Arch>::load(sorted + i), map, kind)).store(p.of(t) + i);
  }
  null.to_p_values<Arch>(p.values.data(), block.tokens * p.stride);
}

/// The same, of any null distribution.
template <NullDistribution N>
void compute_p(const TokenBlock& block, const N& null, int first, PValues& p) noexcept {
  for (int t = 0; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    if (!block.ordinary[at]) continue;
    const float* sorted = block.scores_of(t);
    double* to = p.of(t);
    for (int i = 0; i < first; ++i) {
      const float score = block.map[at](sorted[i]);
      const bool counts = score > -std::numeric_limits<float>::infinity();
      to[i] = counts ? null(static_cast<double>(score)) : 1.0;
    }
    std::fill(to + first, to + p.stride, 1.0);
  }
}

/// Fills in `count`, by the rule.
template <class Arch, class R>
FDROUTE_KERNEL void count_by_rule(TokenBlock& block, const R& rule, const PValues& p,
                                  ExpertBounds bounds) noexcept {
  for (int t = 0; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    block.count[at] = 0;
    if (!block.ordinary[at]) continue;
    int count = 0;
    if constexpr (kernel_of<R> == Kernel::vectors_of_p) {
      count = rule.template count<Arch>(p.of(t), block.experts);
    } else {
      count = rule(std::span<const double>(p.of(t), static_cast<std::size_t>(block.experts)));
    }
    block.count[at] = std::min(bounds(count), block.experts);
  }
}

/// Fills in `set_size`, `sets` and `count`.
template <class Arch, class R, class N>
[[gnu::noinline]] void count_by_p(TokenBlock& block, const R& rule, const N& null, MapKind kind,
                                  ExpertBounds bounds) noexcept {
  const int first =
      std::min(block.experts, std::max({p_values_needed(rule, block.experts), bounds.min_k, 1}));
  sort_rows<Arch>(block, first);
  PValues p(first);
  const SurvivalTable* table = nullptr;
  if constexpr (kernel_of<N> == Kernel::table) table = null.table();
  if (table != nullptr) {
    p_from_table<Arch>(block, *table, kind, p);
  } else {
    compute_p(block, null, first, p);
  }
  count_by_rule<Arch>(block, rule, p, bounds);
  TokenBlock::PerToken<float> reached;
  for (int t = 0; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    reached[at] = block.scores_of(t)[std::max(block.count[at], 1) - 1];
  }
  find_sets<Arch>(block, reached);
}

}  // namespace fdroute::inline v0::detail
