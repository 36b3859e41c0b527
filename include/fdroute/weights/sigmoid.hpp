#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "fdroute/detail/number/to_text.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// SigmoidWeights: the sigmoid of each selected expert's logit.
///
///     w_j = sigmoid(logit_j) = 1 / (1 + exp(-logit_j))
///
/// With `renormalize` the weights are w_j / (sum of the selected w + epsilon) instead. Weights are
/// computed in double and rounded once; they lie in [0, 1]. A NaN or -inf logit has weight 0, one
/// of +inf the sigmoid 1; selected weights that are all 0 stay 0. `epsilon` is finite and not
/// negative; a Router throws std::invalid_argument otherwise.
struct SigmoidWeights {
  bool renormalize = false;
  double epsilon = 0.0;

  void operator()(std::span<const float> logits, std::span<const std::int32_t> experts,
                  std::span<float> weights) const noexcept {
    double divisor = 1.0;
    if (renormalize) {
      double sum = 0.0;
      for (const std::int32_t j : experts) sum += sigmoid(logits[static_cast<std::size_t>(j)]);
      if (sum > 0.0) divisor = sum + epsilon;
    }
    for (std::size_t i = 0; i < experts.size(); ++i) {
      const float x = logits[static_cast<std::size_t>(experts[i])];
      weights[i] = static_cast<float>(sigmoid(x) / divisor);
    }
  }

  void validate(int) const {
    if (!(epsilon >= 0.0 && epsilon <= std::numeric_limits<double>::max())) {
      detail::refuse("SigmoidWeights: epsilon must be finite and >= 0, got " +
                     detail::to_text(epsilon));
    }
  }

 private:
  static double sigmoid(float x) noexcept {
    return std::isnan(x) ? 0.0 : 1.0 / (1.0 + std::exp(-static_cast<double>(x)));
  }
};

}  // namespace fdroute::inline v0
