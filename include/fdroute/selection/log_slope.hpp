#pragma once

#include <cmath>
#include <cstddef>
#include <span>

#include "fdroute/detail/row/softmax_numerator.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// LogSlope: a threshold on log-softmax scores that falls with the logarithm of the count.
///
///     count = the largest k with s(k) >= c - sigma ln k,  0 if there is none
///
/// with s(1) >= s(2) >= ... the scores logit - log sum exp of all m logits, in double. It is what
/// BenjaminiHochberg does where the null's tail is exponential: p = p0 exp(-(s - s0) / sigma) makes
/// p(k) <= alpha k / m the line above with c = s0 + sigma ln(p0 m / alpha). With sigma = 0 it is
/// AbsoluteThreshold at t = exp(c). The count lies in [0, m]. NaN and -inf logits never count
/// beside a finite one; logits of +inf share the probability 1. `c` is finite and `sigma` finite
/// and not negative; a Router throws std::invalid_argument otherwise.
struct LogSlope {
  double c = -3.0;
  double sigma = 0.3;

  /// The count of a token whose logits, shape (m), descend, NaN last.
  int operator()(std::span<const float> sorted_logits) const noexcept {
    const detail::SoftmaxNumerator numerator{sorted_logits.front()};
    double total = 0.0;
    for (const float logit : sorted_logits) total += numerator(logit);
    std::size_t k = sorted_logits.size();
    while (k > 0 && !(std::log(numerator(sorted_logits[k - 1]) / total) >=
                      c - sigma * std::log(static_cast<double>(k)))) {
      --k;
    }
    return static_cast<int>(k);
  }

  void validate(int) const {
    if (!std::isfinite(c)) {
      detail::refuse("LogSlope: c must be finite, got ", c);
    }
    if (!(sigma >= 0.0 && std::isfinite(sigma))) {
      detail::refuse("LogSlope: sigma must be finite and at least 0, got ", sigma);
    }
  }
};

}  // namespace fdroute::inline v0
