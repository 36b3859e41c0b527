#pragma once

#include <span>

#include "fdroute/detail/checks/check_policies.hpp"
#include "fdroute/detail/row/soft_cap.hpp"
#include "fdroute/ranking/by_logit.hpp"

namespace fdroute::inline v0 {

/// SoftCappedRanking: another ranking's keys of logits that are capped first,
///
///     key_j = ranking(cap tanh(logit / cap))_j
///
/// The capped logits are computed in double and rounded to float once. A logit of -inf still masks
/// its expert, NaN stays NaN, and +inf becomes `cap`. SoftCappedWeights is its twin for weights.
/// `cap` is positive and finite; a Router throws std::invalid_argument otherwise, and where
/// `ranking` is not valid.
template <class K>
struct SoftCappedRanking {
  K ranking{};
  float cap = 1.0F;
  TieOrder ties = ranking.ties;

  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    ranking(detail::SoftCapped(logits, cap).logits(), keys);
  }

  void validate(int experts) const {
    detail::check_cap("SoftCappedRanking", cap);
    detail::validate_policy(ranking, experts);
  }
};

}  // namespace fdroute::inline v0
