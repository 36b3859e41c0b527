#pragma once

#include <span>

#include "fdroute/detail/row/softmax_numerator.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// AbsoluteThreshold: the experts whose softmax probability is at least t.
///
///     count = #{ j : P_j >= t },  0 if there is none
///
/// with P the softmax over all m experts, in double; the comparison is made as
/// exp(logit_j - largest logit) >= t * sum. The count lies in [0, m]. A NaN or -inf logit has
/// probability 0; logits of +inf share the probability 1. On the log_softmax score it is one
/// threshold, ln t, for all tokens. `t` lies in (0, 1]; a Router throws std::invalid_argument
/// otherwise.
struct AbsoluteThreshold {
  double t = 0.05;

  /// The count of a token whose logits, shape (m), descend, NaN last.
  int operator()(std::span<const float> sorted_logits) const noexcept {
    const detail::SoftmaxNumerator numerator{sorted_logits.front()};
    double total = 0.0;
    for (const float logit : sorted_logits) total += numerator(logit);
    int count = 0;
    for (const float logit : sorted_logits)
      count += static_cast<int>(numerator(logit) >= t * total);
    return count;
  }

  void validate(int) const {
    if (!(t > 0.0 && t <= 1.0)) {
      detail::refuse("AbsoluteThreshold: t must lie in (0, 1], got ", t);
    }
  }
};

}  // namespace fdroute::inline v0
