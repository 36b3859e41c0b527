#pragma once

#include <cmath>

namespace fdroute::inline v0::detail {

/// The numerator of a softmax over logits of which the largest is known:
/// exp((logit - largest) / temperature) in double, in [0, 1]. NaN gives 0. If `largest` is +inf,
/// all logits of +inf give 1 and all others 0, the limit.
struct SoftmaxNumerator {
  float largest;
  double temperature = 1.0;

  double operator()(float logit) const noexcept {
    if (logit == largest) return 1.0;
    const double difference = static_cast<double>(logit) - static_cast<double>(largest);
    const double numerator = std::exp(difference / temperature);
    return std::isnan(numerator) ? 0.0 : numerator;
  }
};

}  // namespace fdroute::inline v0::detail
