#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include "fdroute/detail/checks/check_policies.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// Normalized: another policy's weights divided by their norm, but by no less than a floor.
///
///     w_j = weights_j / max((sum of the selected |weights|^power)^(1 / power), floor)
///
/// The norm is computed in double, the quotient rounded to float once. Weights that are all 0 stay
/// 0. SoftmaxWeights and SigmoidWeights with `renormalize` divide by the sum, too; this is for
/// models that bound the sum below (ERNIE 4.5, moe_norm_min) or take another norm (DBRX,
/// moe_normalize_expert_weights). `power` is positive and finite, `floor` finite and not negative;
/// a Router throws std::invalid_argument otherwise, and where `weights` is not valid.
template <class W>
struct Normalized {
  W weights{};
  double power = 1.0;
  double floor = 0.0;

  void operator()(std::span<const float> logits, std::span<const std::int32_t> experts,
                  std::span<float> out) const noexcept {
    weights(logits, experts, out);
    double largest = 0.0;  // taken out of the powers, which could else be 0 or infinite
    for (const float w : out) largest = std::max(largest, std::abs(static_cast<double>(w)));
    if (!(largest > 0.0)) return;
    double sum = 0.0;
    for (const float w : out) {
      const double share = std::abs(static_cast<double>(w)) / largest;
      sum += power == 1.0 ? share : std::pow(share, power);
    }
    const double norm = largest * (power == 1.0 ? sum : std::pow(sum, 1.0 / power));
    const double divisor = std::max(norm, floor);
    for (float& w : out) w = static_cast<float>(static_cast<double>(w) / divisor);
  }

  void validate(int experts) const {
    constexpr double most = std::numeric_limits<double>::max();
    if (!(power > 0.0 && power <= most)) {
      detail::refuse("Normalized: power must be positive and finite, got ", power);
    }
    if (!(floor >= 0.0 && floor <= most)) {
      detail::refuse("Normalized: floor must be finite and >= 0, got ", floor);
    }
    detail::validate_policy(weights, experts);
  }
};

}  // namespace fdroute::inline v0
