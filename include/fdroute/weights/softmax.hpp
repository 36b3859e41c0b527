#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>

#include "fdroute/detail/softmax.hpp"
#include "fdroute/detail/text.hpp"

namespace fdroute::inline v0 {

/// SoftmaxWeights: the softmax over all experts, of which the selected ones are kept.
///
///     w_j = exp(logit_j / temperature) / sum_i exp(logit_i / temperature),  i over all experts
///
/// With `renormalize` the kept weights are divided by their sum (Mixtral, Qwen with
/// norm_topk_prob); without, they are used as they stand, as OLMoE does. Computed in double and
/// rounded once. A NaN logit has weight 0; logits of +inf share the weight 1 equally and leave 0 to
/// all others, the limit of the formula. `temperature` is positive and finite; a Router throws
/// std::invalid_argument otherwise.
struct SoftmaxWeights {
  double temperature = 1.0;
  bool renormalize = false;

  void operator()(std::span<const float> logits, std::span<const std::int32_t> experts,
                  std::span<float> weights) const noexcept {
    float largest = -std::numeric_limits<float>::infinity();
    for (const float x : logits) largest = x > largest ? x : largest;  // skips NaN

    const detail::SoftmaxNumerator numerator{largest, temperature};
    double sum = 0.0;
    if (renormalize) {
      for (const std::int32_t j : experts) sum += numerator(logits[static_cast<std::size_t>(j)]);
    } else {
      for (const float x : logits) sum += numerator(x);
    }
    for (std::size_t i = 0; i < experts.size(); ++i) {
      const float x = logits[static_cast<std::size_t>(experts[i])];
      weights[i] = static_cast<float>(numerator(x) / sum);
    }
  }

  void validate(int) const {
    if (!(temperature > 0.0 && temperature <= std::numeric_limits<double>::max())) {
      throw std::invalid_argument("SoftmaxWeights: temperature must be positive and finite, got " +
                                  detail::to_text(temperature));
    }
  }
};

}  // namespace fdroute::inline v0
