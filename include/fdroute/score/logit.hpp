#pragma once

#include <span>
#include <string_view>

#include "fdroute/concepts.hpp"

namespace fdroute::inline v0 {

/// Logit: the router's logit as it stands,
///
///     score_j = logit_j
///
/// Softmax ignores a shift common to all of a token's logits; a p-value of the raw logit does not.
/// Prefer LogSoftmax or ZScore unless the null was fitted on raw logits.
struct Logit {
  /// What a null distribution records, and what policy strings say.
  static constexpr std::string_view name = "logit";

  constexpr ScoreMap operator()(std::span<const float>) const noexcept { return {}; }
};

}  // namespace fdroute::inline v0
