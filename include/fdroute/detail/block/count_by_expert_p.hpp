#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/block/rank.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/number/total_order.hpp"
#include "fdroute/limits.hpp"

// Counts and ranks by a null distribution for every expert: the p-values decide the order, too.

namespace fdroute::inline v0::detail {

/// One token's p-values by expert, above 1 after the last one.
template <class Arch>
class ExpertP {
 public:
  ExpertP(int experts, int stride) noexcept : experts_(experts), stride_(stride) {}

  /// Takes the p-values null(score, expert) of the scores of some keys, 1 for a masked expert.
  template <ExpertNull N>
  void take(const N& null, const float* keys, const ScoreMap& map) noexcept {
    for (int j = 0; j < experts_; ++j) {
      const float score = map(keys[j]);
      const bool counts = score > -std::numeric_limits<float>::infinity();
      p_[static_cast<std::size_t>(j)] = counts ? null(static_cast<double>(score), j) : 1.0;
    }
    std::fill(p_.begin() + experts_, p_.begin() + stride_, 2.0);
  }

  double operator[](std::int32_t expert) const noexcept {
    return p_[static_cast<std::size_t>(expert)];
  }

  /// The experts with p-values <= level, and their number.
  FDROUTE_INLINE int at_most(double level, std::uint64_t* set) const noexcept {
    int count = 0;
    for (int i = 0; i < stride_; i += 64) {
      std::uint64_t& word = set[i / 64];
      word = 0;
      for (int part = 0; part < 64; part += 16) {
        const auto p = Doubles<Arch>::load(p_.data() + i + part);
        word |= (Doubles<Arch>(level) >= p).bits() << part;
      }
      count += std::popcount(word);
    }
    return count;
  }

  /// The n-th smallest, n in 1 .. 16, of the smallest p-values of 16 lanes: at least n reach it.
  FDROUTE_INLINE double reached_by(int n) const noexcept {
    auto least = Doubles<Arch>::load(p_.data());
    for (int i = 16; i < stride_; i += 16)
      least = smaller(least, Doubles<Arch>::load(p_.data() + i));
    alignas(64) std::array<double, 16> lanes;
    least.store(lanes.data());
    std::nth_element(lanes.begin(), lanes.begin() + (n - 1), lanes.end());
    return lanes[static_cast<std::size_t>(n - 1)];
  }

 private:
  int experts_;
  int stride_;
  alignas(64) std::array<double, max_experts> p_;
};

/// The count of a rule by critical values, from `reaching(level)`, the number of p-values <= level,
/// in the steps of next_count().
template <CriticalValueRule R, class Reaching>
int count_by_critical_values(const R& rule, int experts, const Reaching& reaching) noexcept {
  int k = StepDownRule<R> ? 0 : experts;
  while (StepDownRule<R> ? k < experts : k > 0) {
    const int before = k;
    k = reaching(rule.critical_value(StepDownRule<R> ? k + 1 : k, experts));
    if (k == before) break;
  }
  return k;
}

/// Ranks the candidates of a token by ascending p-value, equal ones by key, then by id.
template <class Arch>
void rank_by_expert_p(TokenBlock& block, int t, const ExpertP<Arch>& p) noexcept {
  const auto at = static_cast<std::size_t>(t);
  const std::int32_t* ids = block.candidate_ids_of(t);
  const float* keys = block.rows[at];
  list<Arch>(block, t, block.candidate_ids_of(t));
  for (int i = 0; i < block.candidates[at]; ++i) {
    const double own = p[ids[i]];
    const std::int32_t own_key = ordered(keys[ids[i]]);
    int place = 0;
    for (int j = 0; j < block.candidates[at]; ++j) {
      const double other = p[ids[j]];
      const std::int32_t key = ordered(keys[ids[j]]);
      const bool first = key > own_key || (key == own_key && j < i);
      place += static_cast<int>(other < own || (other == own && first));
    }
    block.ranked_of(t)[place] = ids[i];
  }
}

/// Fills in `set_size`, `sets`, `count`, `candidates` and `ranked`. P is a RouterParts whose rule
/// has critical values or a fixed count.
template <class Arch, class P>
[[gnu::noinline]] void count_by_expert_p(TokenBlock& block, const P& parts) noexcept {
  using R = decltype(P::rule);
  ExpertP<Arch> p(block.experts, block.stride_64);
  for (int t = 0; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    block.set_size[at] = -1;
    block.candidates[at] = block.count[at] = 0;
    if (!block.ordinary[at]) continue;
    p.take(parts.null, block.rows[at], block.map[at]);
    std::uint64_t* set = block.set_of(t);
    if constexpr (FixedCountRule<R>) {
      block.count[at] = parts.bounded(parts.rule.count(block.experts));
    } else {
      block.set_size[at] = count_by_critical_values(
          parts.rule, block.experts, [&](double level) { return p.at_most(level, set); });
      block.count[at] = parts.bounded(block.set_size[at]);
    }
    const int n = std::max(block.count[at], 1);
    int candidates = block.set_size[at];
    if (n != candidates || n > TokenBlock::most_listed) {
      if (n > TokenBlock::most_listed) continue;
      const double level = p.reached_by(n);
      if (!(level < 1.0)) continue;  // where masked experts are
      candidates = p.at_most(level, set);
      block.set_size[at] = -1;
      if (candidates > TokenBlock::most_listed) continue;
    }
    block.candidates[at] = candidates;
    rank_by_expert_p(block, t, p);
  }
}

}  // namespace fdroute::inline v0::detail
