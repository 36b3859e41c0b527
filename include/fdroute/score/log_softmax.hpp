#pragma once

#include <span>
#include <string_view>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/row/score_maps.hpp"

namespace fdroute::inline v0 {

/// LogSoftmax: the logarithm of the expert's softmax probability,
///
///     score_j = logit_j - log sum_i exp(logit_i)
///
/// with the sum over the token's finite logits, shape (experts), of which there is at least one.
/// The natural logarithm is the same bits on every machine, from one order of float and double
/// operations (detail/row/exp_sum.hpp), and within 2.5e-7 of the true value before it is rounded to
/// float. Scores of finite logits are at most 0, but for that rounding. Up to rounding,
/// scores do not change when all logits are shifted alike: as with softmax.
struct LogSoftmax {
  /// What a null distribution records, and what policy strings say.
  static constexpr std::string_view name = "log_softmax";

  ScoreMap operator()(std::span<const float> logits) const noexcept {
    return detail::FiniteRow(logits).log_softmax();
  }
};

}  // namespace fdroute::inline v0
