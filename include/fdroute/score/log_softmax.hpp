#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string_view>

#include "fdroute/concepts.hpp"

namespace fdroute::inline v0 {

/// LogSoftmax: the logarithm of the expert's softmax probability,
///
///     score_j = logit_j - log sum_i exp(logit_i)
///
/// The sum runs over the finite logits, in index order and in double, and the logarithm is rounded
/// to float once: so the cut does not move with the machine, the batch or the number of threads.
struct LogSoftmax {
  static constexpr std::string_view name = "log_softmax";

  ScoreMap operator()(std::span<const float> logits) const noexcept {
    float largest = -std::numeric_limits<float>::infinity();
    for (const float x : logits) {
      if (std::isfinite(x)) largest = std::max(largest, x);
    }
    double sum = 0.0;
    for (const float x : logits) {
      if (std::isfinite(x)) sum += std::exp(static_cast<double>(x) - static_cast<double>(largest));
    }
    return {static_cast<float>(static_cast<double>(largest) + std::log(sum)), 1.0F};
  }
};

}  // namespace fdroute::inline v0
