#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "fdroute/bounds.hpp"
#include "fdroute/concepts.hpp"
#include "fdroute/detail/block/rank.hpp"
#include "fdroute/detail/block/sets.hpp"
#include "fdroute/detail/block/sort.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/number/rounded_sum.hpp"
#include "fdroute/detail/row/exp_sum.hpp"
#include "fdroute/selection/top_p.hpp"

// Counts by rules that read the logits. These fill in `set_size`, `sets` and `count`.

namespace fdroute::inline v0::detail {

/// By rules of Kernel::margin.
template <class Arch>
FDROUTE_KERNEL void count_by_margin(TokenBlock& block, double margin,
                                    ExpertBounds bounds) noexcept {
  for (int t = 0; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    const float least = rounded_up_sum(block.largest[at], margin);
    const int size = at_least<Arch>(block.rows[at], block.stride_64, least, block.set_of(t));
    block.set_size[at] = size;
    block.count[at] = std::min(bounds(size), block.experts);
  }
}

/// Sorts the columns, of at most 16 tokens, and finds the counts of TopP, 0 where the sums are too
/// near to decide.
///
/// In place of the definition's exps these are of floats, of differences d rounded to float. Of a
/// sum of n exps, one of them 1, that rounding changes the mean of d, weighted by the exps, times
/// 2^-24, and the mean is at most log n; the exps themselves are within 1.2 ulp: less than 6e-7 in
/// all, and no more in `exp_sum`. So where a sum is off the level by the fraction 2^-19, the
/// definition decides the same way.
template <class Arch>
FDROUTE_KERNEL void count_nucleus(const TokenBlock& block, double p, Columns<16>& columns,
                                  TokenBlock::PerToken<int>& counts) noexcept {
  columns.sort<Arch>(block, 0, block.experts);
  using Lane = Floats<Arch>;
  using Wide = Doubles<Arch>;
  const ExpOfDifference<Arch> exp(0.0F);
  alignas(64) std::array<float, 64> largest;
  for (std::size_t i = 0; i < largest.size(); ++i) largest[i] = block.largest[i % 16];
  // As in exp_sum_of_64().
  constexpr int at_once = Floats<Arch, 64>::parts <= 8 ? 4 : 1;
  using Some = Floats<Arch, std::size_t{16} * at_once>;
  const Some shift = Some::load(largest.data());
  const Wide level = Wide::load(block.exp_sum.data()) * Wide(p);
  const Wide reached = level * Wide(1.0 + 0x1p-19);
  const Wide missed = level * Wide(1.0 - 0x1p-19);
  Wide sum(0.0);
  Wide below(0.0);  // how many sums are below the level, and, in the other, may be
  Wide near(0.0);
  for (int i = 0; i < block.padded_16; i += at_once) {
    const auto exps = exp(Some::load(columns.x.data() + 16 * i) - shift);
    unrolled<at_once>([&](std::size_t j) FDROUTE_INLINED {
      sum = sum + widen(Lane::generate([&](std::size_t part) FDROUTE_INLINED {
              return exps.part[j * Lane::parts + part];
            }));
      below = below + choose(missed >= sum, Wide(1.0), Wide(0.0));
      near = near + choose(reached >= sum, Wide(1.0), Wide(0.0));
    });
  }
  alignas(64) TokenBlock::PerToken<double> least;
  alignas(64) TokenBlock::PerToken<double> most;
  below.store(least.data());
  near.store(most.data());
  for (std::size_t t = 0; t < counts.size(); ++t)
    counts[t] = least[t] == most[t] ? static_cast<int>(least[t]) + 1 : 0;
}

/// count_nucleus() for one token, whose logits are sorted in its row of scores.
template <class Arch>
FDROUTE_KERNEL int count_nucleus_of_one(const TokenBlock& block, double p) noexcept {
  const ExpOfDifference<Arch> exp(0.0F);
  const Floats<Arch> shift(block.largest[0]);
  const double level = block.exp_sum[0] * p;
  const double reached = level * (1.0 + 0x1p-19);
  const double missed = level * (1.0 - 0x1p-19);
  double sum = 0.0;
  int below = 0;
  for (int i = 0; i < block.padded_16; i += 16) {
    alignas(64) std::array<float, 16> exps;
    exp(Floats<Arch>::load(block.scores_of(0) + i) - shift).store(exps.data());
    for (const float e : exps) {
      sum += static_cast<double>(e);
      if (sum > reached) return below + 1;
      if (sum >= missed) return 0;
      ++below;
    }
  }
  return 0;
}

/// How many sums of the first exps are below a level at least and at most, by the margin of
/// count_nucleus(). V is double or Doubles.
template <class V>
struct BelowLevel {
  V least{0.0};
  V most{0.0};

  template <class ExpOf>
  FDROUTE_INLINE BelowLevel(const V& level, int n, const ExpOf& exp_of) noexcept {
    const V reached = level * V(1.0 + 0x1p-19);
    const V missed = level * V(1.0 - 0x1p-19);
    V sum(0.0);
    for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
      sum = sum + exp_of(i);
      least = least + choose(missed >= sum, V(1.0), V(0.0));
      most = most + choose(reached >= sum, V(1.0), V(0.0));
    }
  }
};

/// TopP's counts of at most `most` experts, 1 to most_listed, which alone are ranked for it: fills
/// in all that a count and rank_best() do.
///
/// A count is that of the sums of the best experts' exps that stay below the level; near it, by the
/// margin of count_nucleus(), and where more than most_listed are candidates, the definition
/// decides.
template <class Arch>
FDROUTE_KERNEL void count_nucleus_of_best(TokenBlock& block, double p, int most,
                                          ExpertBounds bounds) noexcept {
  using Wide = Doubles<Arch>;
  const auto is_listed = [](int candidates) FDROUTE_INLINED {
    return 0 < candidates && candidates <= TokenBlock::most_listed;
  };
  alignas(64) TokenBlock::PerToken<std::array<float, 16>> exps;
  std::array<const float*, 16> rows;
  rows.fill(exps[0].data());
  for (int t = 0; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    const auto lanes = Ints<Arch>::load(lane_numbers.data());
    const auto ids = choose(Ints<Arch>(is_listed(block.candidates[at]) ? most : 0) > lanes,
                            Ints<Arch>::load(block.ranked_of(t)), Ints<Arch>(0));
    const float* e = block.exps_of(t);
    (block.stride_64 == 64 ? pick(e, ids) : gather(e, ids)).store(exps[at].data());
    rows[at] = exps[at].data();
  }
  alignas(64) TokenBlock::PerToken<double> least;
  alignas(64) TokenBlock::PerToken<double> highest;
  if (block.tokens == 1) {
    const BelowLevel<double> count(block.exp_sum[0] * p, most,
                                   [&](std::size_t i) { return static_cast<double>(exps[0][i]); });
    least[0] = count.least;
    highest[0] = count.most;
  } else {
    alignas(64) std::array<float, 256> columns;
    transpose_16(rows.data(), columns.data(), 16, Arch{});
    const BelowLevel<Wide> count(Wide::load(block.exp_sum.data()) * Wide(p), most,
                                 [&](std::size_t i) FDROUTE_INLINED {
                                   return widen(Floats<Arch>::load(columns.data() + 16 * i));
                                 });
    count.least.store(least.data());
    count.most.store(highest.data());
  }
  for (int t = 0; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    block.ordinary[at] = is_listed(block.candidates[at]) && least[at] == highest[at];
    if (!block.ordinary[at]) {
      block.candidates[at] = 0;
      continue;
    }
    const int count = std::min(bounds(static_cast<int>(least[at]) + 1), block.experts);
    block.count[at] = block.set_size[at] = count;
    std::uint64_t* set = block.set_of(t);
    std::fill_n(set, block.stride_64 / 64, std::uint64_t{0});
    for (int i = 0; i < count; ++i) {
      const std::int32_t id = block.ranked_of(t)[i];
      set[id / 64] |= std::uint64_t{1} << (id % 64);
    }
  }
}

/// Fills in `set_size`, `sets` and `count`.
template <class Arch, LogitRule R>
[[gnu::noinline]] void count_by_logits(TokenBlock& block, const R& rule,
                                       ExpertBounds bounds) noexcept {
  sort_rows<Arch>(block, block.experts);
  TokenBlock::PerToken<float> reached;
  for (int t = 0; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    const std::span<const float> sorted(block.scores_of(t),
                                        static_cast<std::size_t>(block.experts));
    block.count[at] = block.ordinary[at] ? std::min(bounds(rule(sorted)), block.experts) : 0;
    reached[at] = sorted[static_cast<std::size_t>(std::max(block.count[at], 1) - 1)];
  }
  find_sets<Arch>(block, reached);
}

/// count_by_logits() by rules of Kernel::nucleus, from exp_sum.
template <class Arch>
[[gnu::noinline]] void count_by_nucleus(TokenBlock& block, const TopP& rule,
                                        ExpertBounds bounds) noexcept {
  if (const int most = std::min(bounds.max_k, block.experts); most <= TokenBlock::most_listed) {
    block.count.fill(most);
    block.set_size.fill(-1);
    rank_best<Arch>(block, false);
    block.is_ranked = true;
    return count_nucleus_of_best<Arch>(block, rule.p, most, bounds);
  }
  if (sorts_alone(block)) {
    sort_rows<Arch>(block, block.experts);
    const float* sorted = block.scores_of(0);
    int count = block.ordinary[0] ? count_nucleus_of_one<Arch>(block, rule.p) : 0;
    if (count == 0 && block.ordinary[0])
      count = rule({sorted, static_cast<std::size_t>(block.experts)});
    block.count[0] = std::min(bounds(count), block.experts);
    TokenBlock::PerToken<float> reached;
    reached[0] = sorted[std::max(block.count[0], 1) - 1];
    return find_sets<Arch>(block, reached);
  }
  if (block.padded_16 > Columns<16>::longest) return count_by_logits<Arch>(block, rule, bounds);
  Columns<16> columns;
  TokenBlock::PerToken<int> counts;
  count_nucleus<Arch>(block, rule.p, columns, counts);
  TokenBlock::PerToken<float> reached;
  for (int t = 0; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    if (counts[at] == 0 && block.ordinary[at]) {
      columns.copy(t, block.experts, block.scores_of(t));
      counts[at] = rule({block.scores_of(t), static_cast<std::size_t>(block.experts)});
    }
    block.count[at] = block.ordinary[at] ? std::min(bounds(counts[at]), block.experts) : 0;
    reached[at] = block.ordinary[at] ? columns.at(t, std::max(block.count[at], 1) - 1) : 0.0F;
  }
  find_sets<Arch>(block, reached);
}

}  // namespace fdroute::inline v0::detail
