#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "fdroute/bounds.hpp"
#include "fdroute/detail/block/rank.hpp"
#include "fdroute/detail/block/scores.hpp"
#include "fdroute/detail/block/token_block.hpp"

namespace fdroute::inline v0::detail {

/// Scores, counts and ranks a block of one loaded token with at most 64 experts, by critical scores
/// in a kernel_table(): fills in what weigh_ranked() and write_lists() read. Returns false if the
/// general kernels must do it. The score is Logit, LogSoftmax or ZScore, for MapKind identity,
/// shift or affine.
///
/// With one token there is nothing to do while a step of the count waits for the last. So it takes
/// none: the experts that reach t_m are all that any rule by critical scores can count. They are
/// ranked first, and each is then compared with the critical score of its rank.
///
/// The exps of `logits`, the block itself or the one that its keys were made from, are computed if
/// `takes_exps`.
template <class Arch>
FDROUTE_KERNEL bool count_one(TokenBlock& logits, TokenBlock& block, const float* critical,
                              MapKind kind, bool step_down, ExpertBounds bounds,
                              bool takes_exps) noexcept {
  if (!block.ordinary[0]) return false;
  const float* row = block.rows[0];
  if (kind == MapKind::shift) {
    if (&logits == &block) takes_exps = false;
    take_exps_of<Arch>(block, 0);
    block.map[0] = log_softmax_map(block.largest[0], log_of_sum(block.exp_sum[0]));
  } else if (kind == MapKind::affine) {
    block.map[0] = zscore_map<Arch>(row, block.experts, block.padded_16, block.largest[0]);
  }
  const ScoreMap map = block.map[0];

  const auto scores = score(Floats<Arch, 64>::load_anywhere(row), map, kind);
  const std::uint64_t set = (scores >= Floats<Arch, 64>(critical[block.experts])).bits();
  const int candidates = std::popcount(set);
  if (candidates == 0 || candidates > TokenBlock::most_listed) return false;
  block.sets[0] = set;
  block.candidates[0] = candidates;
  list_few<Arch>(block, 0);
  // What the score does not need is computed here: it overlaps with the latency of list_few().
  if (takes_exps) take_exps_of<Arch>(logits, 0);
  rank_listed<Arch>(block, 0);

  const auto ranked = score(pick(row, Ints<Arch>::load(block.ranked_of(0))), map, kind);
  const auto passes = ranked >= Floats<Arch>::load_anywhere(critical + 1);
  const auto passing_bits =
      static_cast<std::uint32_t>(passes.bits()) & ((std::uint32_t{1} << candidates) - 1);
  const int count =
      step_down ? std::countr_one(passing_bits) : static_cast<int>(std::bit_width(passing_bits));
  block.set_size[0] = -1;  // the set holds more than the counted
  block.count[0] = std::min(bounds(count), block.experts);
  return block.count[0] <= candidates;
}

}  // namespace fdroute::inline v0::detail
