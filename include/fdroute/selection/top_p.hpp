#pragma once

#include <span>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/row/softmax_numerator.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// TopP: the fewest experts whose softmax probabilities reach a total of p (nucleus selection).
///
///     count = min { k : P(1) + ... + P(k) >= p },   P(1) >= P(2) >= ... over all experts
///
/// summed in double, in that order. The count lies in [1, m] for m experts. A NaN or -inf logit has
/// probability 0; logits of +inf share the probability 1. `p` lies in (0, 1]; a Router throws
/// std::invalid_argument otherwise. p = 1 takes experts until the rest is too small to change the
/// sum in double.
///
/// Q. Huang et al., Harder tasks need more experts: dynamic routing in MoE models (2024),
/// arXiv:2403.07652
struct TopP {
  double p = 0.9;

  /// The count of a token whose logits, shape (m), descend, NaN last.
  int operator()(std::span<const float> sorted_logits) const noexcept {
    const detail::SoftmaxNumerator numerator{sorted_logits.front()};
    double total = 0.0;
    for (const float logit : sorted_logits) total += numerator(logit);
    double sum = 0.0;
    int count = 0;
    for (const float logit : sorted_logits) {
      sum += numerator(logit);
      ++count;
      if (sum >= p * total) break;
    }
    return count;
  }

  /// p, under the name that Kernel::nucleus asks for.
  constexpr double nucleus() const noexcept { return p; }

  void validate(int) const {
    if (!(p > 0.0 && p <= 1.0)) detail::refuse("TopP: p must lie in (0, 1], got ", p);
  }
};

template <>
inline constexpr Kernel kernel_of<TopP> = Kernel::nucleus;

}  // namespace fdroute::inline v0
