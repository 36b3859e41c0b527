#pragma once

#include <span>
#include <string_view>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/row/score_maps.hpp"

namespace fdroute::inline v0 {

/// ZScore: the logit standardised within its token,
///
///     score_j = (logit_j - mean) / sd,   sd^2 = (1/n) sum_i (logit_i - mean)^2
///
/// over the token's n finite logits, of which there is at least one. Mean and sd are in double, in
/// one order of operations on every machine (detail/row/score_maps.hpp). Mean and 1/sd are rounded
/// to float once, 1/sd at most to the largest float. A row of equal logits has only scores of 0.
/// Up to rounding, scores do not change when all logits are shifted or scaled alike.
struct ZScore {
  /// What a null distribution records, and what policy strings say.
  static constexpr std::string_view name = "zscore";

  ScoreMap operator()(std::span<const float> logits) const noexcept {
    return detail::FiniteRow(logits).zscore();
  }
};

}  // namespace fdroute::inline v0
