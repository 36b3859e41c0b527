#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "fdroute/detail/row/sqrt_softplus.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// SqrtSoftplusWeights: the root of the softplus of each selected expert's logit.
///
///     w_j = sqrt(log(1 + exp(logit_j)))
///
/// With `renormalize` the weights are w_j / (sum of the selected w + epsilon) instead. Weights are
/// computed in double and rounded once. They are at least 0 and, without `renormalize`, below
/// sqrt(logit_j) + 0.84. A NaN or -inf logit has weight 0. A logit of +inf counts as the largest
/// float. Selected weights that are all 0 stay 0. `epsilon` is finite and not negative; a Router
/// throws std::invalid_argument otherwise.
///
/// DeepSeek-V4 weighs so.
struct SqrtSoftplusWeights {
  bool renormalize = false;
  double epsilon = 0.0;

  void operator()(std::span<const float> logits, std::span<const std::int32_t> experts,
                  std::span<float> weights) const noexcept {
    double divisor = 1.0;
    if (renormalize) {
      double sum = 0.0;
      for (const std::int32_t j : experts) sum += weight_of(logits[static_cast<std::size_t>(j)]);
      if (sum > 0.0) divisor = sum + epsilon;
    }
    for (std::size_t i = 0; i < experts.size(); ++i) {
      const float x = logits[static_cast<std::size_t>(experts[i])];
      weights[i] = static_cast<float>(weight_of(x) / divisor);
    }
  }

  void validate(int) const {
    if (!(epsilon >= 0.0 && epsilon <= std::numeric_limits<double>::max())) {
      detail::refuse("SqrtSoftplusWeights: epsilon must be finite and >= 0, got ", epsilon);
    }
  }

 private:
  static double weight_of(float x) noexcept {
    constexpr float most = std::numeric_limits<float>::max();
    return std::isnan(x) ? 0.0 : detail::sqrt_softplus(x > most ? most : x);
  }
};

}  // namespace fdroute::inline v0
