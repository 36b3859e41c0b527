#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// SparseMixerWeights: each selected expert's share among those that come near it and were not
/// selected before it.
///
///     w_i = 1 / sum { exp(logit_j - logit_i) : j not selected before i, near_i(j) }
///     near_i(j):  (logit_i - logit_j) / max(|logit_j|, logit_i) <= 2 jitter
///
/// with i the selected expert of rank i. An expert of equal logit is near whatever the quotient.
/// So a lone strong expert has weight 1, and the weights do not sum to 1. The comparison is made in
/// float, as in PhiMoE's published code, the sum in double and rounded once. Weights lie in [0, 1];
/// a NaN or -inf logit has weight 0. Two logits of +inf share 1.
///
/// PhiMoE selects two experts by their logits and weighs them so at inference; its noise is of
/// training alone. `jitter` is finite and not negative; a Router throws std::invalid_argument
/// otherwise.
///
/// L. Liu et al., GRIN: GRadient-INformed MoE (2024), section 2.2, arXiv:2409.12136
struct SparseMixerWeights {
  float jitter = 0.01F;

  void operator()(std::span<const float> logits, std::span<const std::int32_t> experts,
                  std::span<float> weights) const noexcept {
    for (std::size_t i = 0; i < experts.size(); ++i) {
      const float best = logits[static_cast<std::size_t>(experts[i])];
      weights[i] = 0.0F;
      if (!(best > -std::numeric_limits<float>::infinity())) continue;  // which NaN is not
      double sum = 0.0;
      for (std::size_t j = 0; j < logits.size(); ++j) {
        const auto earlier = experts.first(i);
        const bool taken = std::find(earlier.begin(), earlier.end(),
                                     static_cast<std::int32_t>(j)) != earlier.end();
        if (!taken && near(logits[j], best)) sum += share(logits[j], best);
      }
      weights[i] = static_cast<float>(1.0 / sum);
    }
  }

  void validate(int) const {
    if (!(jitter >= 0.0F && jitter <= std::numeric_limits<float>::max())) {
      detail::refuse("SparseMixerWeights: jitter must be finite and >= 0, got ", jitter);
    }
  }

 private:
  bool near(float x, float best) const noexcept {
    if (x == best) return true;
    if (std::isnan(x) || std::isinf(x) || std::isinf(best)) return false;
    return (best - x) / std::max(std::abs(x), best) <= 2.0F * jitter;
  }

  static double share(float x, float best) noexcept {
    if (x == best) return 1.0;  // infinite ones, too
    return std::exp(static_cast<double>(x) - static_cast<double>(best));
  }
};

}  // namespace fdroute::inline v0
