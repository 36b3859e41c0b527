#pragma once

#include <span>
#include <stdexcept>

#include "fdroute/detail/softmax.hpp"
#include "fdroute/detail/text.hpp"

namespace fdroute::inline v0 {

/// RelativeThreshold: the experts at least t times as probable as the most probable one.
///
///     count = #{ j : P_j >= t P(1) }
///
/// with P the softmax over all experts; the ratio is exp(logit_j - largest logit), in double. `t`
/// lies in (0, 1]; a Router throws std::invalid_argument otherwise.
struct RelativeThreshold {
  double t = 0.1;

  int operator()(std::span<const float> sorted_logits) const noexcept {
    const detail::SoftmaxNumerator ratio{sorted_logits.front()};
    int count = 0;
    for (const float logit : sorted_logits) count += static_cast<int>(ratio(logit) >= t);
    return count;
  }

  void validate(int) const {
    if (!(t > 0.0 && t <= 1.0)) {
      throw std::invalid_argument("RelativeThreshold: t must lie in (0, 1], got " +
                                  detail::to_text(t));
    }
  }
};

}  // namespace fdroute::inline v0
