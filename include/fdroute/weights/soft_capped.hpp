#pragma once

#include <cstdint>
#include <span>

#include "fdroute/detail/checks/check_policies.hpp"
#include "fdroute/detail/row/soft_cap.hpp"

namespace fdroute::inline v0 {

/// SoftCappedWeights: another policy's weights of logits that are capped first,
///
///     w_j = weights(cap tanh(logit / cap))_j
///
/// The capped logits are computed in double and rounded to float once; -inf and NaN stay what they
/// are, +inf becomes `cap`. SoftCappedRanking is its twin for rankings. `cap` is positive and
/// finite; a Router throws std::invalid_argument otherwise, and where `weights` is not valid.
template <class W>
struct SoftCappedWeights {
  W weights{};
  float cap = 1.0F;

  void operator()(std::span<const float> logits, std::span<const std::int32_t> experts,
                  std::span<float> out) const noexcept {
    weights(detail::SoftCapped(logits, cap).logits(), experts, out);
  }

  void validate(int experts) const {
    detail::check_cap("SoftCappedWeights", cap);
    detail::validate_policy(weights, experts);
  }
};

}  // namespace fdroute::inline v0
