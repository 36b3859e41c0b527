#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/block/rank.hpp"
#include "fdroute/detail/block/scores.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/number/total_order.hpp"
#include "fdroute/detail/row/parts.hpp"
#include "fdroute/detail/rule/critical_scores.hpp"
#include "fdroute/detail/rule/expert_critical_scores.hpp"
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
int count_by_critical_values(const R& rule, bool step_down, int experts,
                             const Reaching& reaching) noexcept {
  int k = first_count(step_down, experts);
  while (step_down ? k < experts : k > 0) {
    const int before = k;
    k = reaching(rule.critical_value(step_down ? k + 1 : k, experts));
    if (k == before) break;
  }
  return k;
}

/// A token's experts that reach their critical scores, for any k that the table has.
template <class Arch>
class ReachingExperts {
 public:
  /// `scores` is as long as a row of the table, -inf after its end.
  ReachingExperts(const ExpertCriticalScores& critical, const float* scores, int stride,
                  std::uint64_t* set) noexcept
      : critical_(critical), scores_(scores), stride_(stride), set_(set) {}

  /// The experts of the set that a rule counts, and their number; -1 if some t_k that it needs is
  /// not in the table.
  FDROUTE_INLINE int counted(bool step_down, int experts) const noexcept {
    int k = first_count(step_down, experts);
    std::fill_n(set_, stride_ / 64, std::uint64_t{0});
    while (step_down ? k < experts : k > 0) {
      const float* row = critical_.of_count(step_down ? k + 1 : k);
      if (row == nullptr) return -1;
      const int before = k;
      k = reaching(row);
      if (k == before) break;
    }
    return k;
  }

  /// The experts that reach the first row that at least n do, and their number; 0 if there is none.
  FDROUTE_INLINE int at_least(int n) const noexcept {
    int first = 0;
    int end = critical_.rows();
    while (first < end) {
      const int middle = (first + end) / 2;
      if (reaching(critical_.row(middle)) < n) {
        first = middle + 1;
      } else {
        end = middle;
      }
    }
    return first < critical_.rows() ? reaching(critical_.row(first)) : 0;
  }

 private:
  FDROUTE_INLINE int reaching(const float* row) const noexcept {
    using Lane = Floats<Arch, 64>;
    int count = 0;
    for (int i = 0; i < stride_; i += 64) {
      std::uint64_t& word = set_[i / 64];
      word = (Lane::load_anywhere(scores_ + i) >= Lane::load_anywhere(row + i)).bits();
      count += std::popcount(word);
    }
    return count;
  }

  const ExpertCriticalScores& critical_;
  const float* scores_;
  int stride_;
  std::uint64_t* set_;
};

/// Lists the candidates of a token, the experts of its set, and ranks them by ascending p-value
/// p_of(id), equal ones by key, then by id.
template <class Arch, class POf>
void rank_by_expert_p(TokenBlock& block, int t, int candidates, const POf& p_of) noexcept {
  using Lane = Doubles<Arch>;
  const auto at = static_cast<std::size_t>(t);
  const std::int32_t* ids = block.candidate_ids_of(t);
  const float* keys = block.rows[at];
  block.candidates[at] = candidates;
  list<Arch>(block, t, block.candidate_ids_of(t));
  alignas(64) std::array<double, TokenBlock::most_listed> p;
  p.fill(2.0);
  const auto n = static_cast<std::size_t>(candidates);
  for (std::size_t i = 0; i < n; ++i) p[i] = p_of(ids[i]);
  const Lane all = Lane::load(p.data());
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t smaller = (Lane(p[i]) > all).bits();
    int place = std::popcount(smaller);
    std::uint64_t equal = (Lane(p[i]) >= all).bits() & ~smaller & ~(std::uint64_t{1} << i);
    const std::int32_t own = ordered(keys[ids[i]]);
    for (; equal != 0; equal &= equal - 1) {
      const auto j = static_cast<std::size_t>(std::countr_zero(equal));
      const std::int32_t key = ordered(keys[ids[j]]);
      place += static_cast<int>(key > own || (key == own && j < i));
    }
    block.ranked_of(t)[place] = ids[i];
  }
}

/// Fills in `set_size`, `sets`, `count`, `candidates` and `ranked`. P is a RouterParts, and `by` is
/// expert_critical_scores or expert_fixed.
///
/// By critical scores, the p-values of few experts are computed: of those that may be selected.
template <class Arch, CountKind by, class P>
[[gnu::noinline]] void count_by_expert_p(TokenBlock& block, const P& parts, MapKind kind) noexcept {
  constexpr int most = TokenBlock::most_listed;
  ExpertP<Arch> p(block.experts, block.stride_64);
  block.is_ranked = true;
  for (int t = 0; t < block.tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    block.set_size[at] = -1;
    block.candidates[at] = block.count[at] = 0;
    if (!block.ordinary[at]) continue;
    const ScoreMap map = block.map[at];
    std::uint64_t* set = block.set_of(t);
    if constexpr (by == CountKind::expert_critical_scores) {
      for (int i = 0; i < block.stride_64; i += 16) {
        score(Floats<Arch>::load_anywhere(block.rows[at] + i), map, kind)
            .store(block.scores_of(t) + i);
      }
      const ExpertCriticalScores critical(parts.critical.data(), block.experts);
      const ReachingExperts<Arch> experts(critical, block.scores_of(t), block.stride_64, set);
      const int size = experts.counted(parts.step_down(), block.experts);
      if (size >= 0) {
        block.set_size[at] = size;
        block.count[at] = parts.bounded(size);
        const int n = std::max(block.count[at], 1);
        if (n > most) continue;
        const bool found = n <= size && size <= most;
        if (!found) block.set_size[at] = -1;
        const int candidates = found ? size : experts.at_least(n);
        if (n <= candidates && candidates <= most) {
          rank_by_expert_p<Arch>(block, t, candidates, [&](std::int32_t id) {
            return parts.null(static_cast<double>(block.scores_of(t)[id]), id);
          });
          continue;
        }
      }
    }
    p.take(parts.null, block.rows[at], map);
    if constexpr (by == CountKind::expert_fixed) {
      block.count[at] = parts.bounded(parts.rule.count(block.experts));
    } else {
      block.set_size[at] =
          count_by_critical_values(parts.rule, parts.step_down(), block.experts,
                                   [&](double level) { return p.at_most(level, set); });
      block.count[at] = parts.bounded(block.set_size[at]);
    }
    const int n = std::max(block.count[at], 1);
    int candidates = block.set_size[at];
    if (n != candidates || n > most) {
      if (n > most) continue;
      const double level = p.reached_by(n);
      if (!(level < 1.0)) continue;  // where masked experts are
      candidates = p.at_most(level, set);
      block.set_size[at] = -1;
      if (candidates > most) continue;
    }
    rank_by_expert_p<Arch>(block, t, candidates, [&](std::int32_t id) { return p[id]; });
  }
}

}  // namespace fdroute::inline v0::detail
