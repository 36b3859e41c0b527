#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/row/recipes.hpp"
#include "fdroute/detail/row/sigmoid.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// SigmoidWeights: the sigmoid of each selected expert's logit.
///
///     w_j = sigmoid(logit_j) = 1 / (1 + exp(-logit_j))
///
/// With `renormalize` the weights are w_j / (sum of the selected w + epsilon) instead. They lie in
/// [0, 1]. The sigmoid is our own, in float and the same bits on every machine
/// (detail/row/sigmoid.hpp); its sum is made in double. A weight is within 4 ulp of the value in
/// double rounded to float. A NaN or -inf logit has weight 0, one of +inf the sigmoid 1; selected
/// weights that are all 0 stay 0. `epsilon` is finite and not negative; a Router throws
/// std::invalid_argument otherwise.
struct SigmoidWeights {
  bool renormalize = false;
  double epsilon = 0.0;

  void operator()(std::span<const float> logits, std::span<const std::int32_t> experts,
                  std::span<float> weights) const noexcept {
    for (std::size_t i = 0; i < experts.size(); ++i) {
      const float x = logits[static_cast<std::size_t>(experts[i])];
      weights[i] = std::isnan(x) ? 0.0F : detail::sigmoid(x);
    }
    if (!renormalize) return;
    const double sum = detail::sum_by_rank(weights);
    const double inverse = 1.0 / (sum > 0.0 ? sum + epsilon : 1.0);
    for (float& weight : weights)
      weight = static_cast<float>(static_cast<double>(weight) * inverse);
  }

  /// How kernels make these weights (Kernel::weight_recipe).
  detail::WeightRecipe recipe() const noexcept {
    return {
        .of = detail::WeightRecipe::Of::sigmoid, .renormalize = renormalize, .parameter = epsilon};
  }

  void validate(int) const {
    if (!(epsilon >= 0.0 && epsilon <= std::numeric_limits<double>::max())) {
      detail::refuse("SigmoidWeights: epsilon must be finite and >= 0, got ", epsilon);
    }
  }
};

template <>
inline constexpr Kernel kernel_of<SigmoidWeights> = Kernel::weight_recipe;

}  // namespace fdroute::inline v0
