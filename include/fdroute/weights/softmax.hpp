#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/number/to_text.hpp"
#include "fdroute/detail/row/exp_sum.hpp"
#include "fdroute/detail/row/recipes.hpp"
#include "fdroute/detail/row/softmax_numerator.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/limits.hpp"

namespace fdroute::inline v0 {

/// SoftmaxWeights: the softmax over all experts, of which the selected ones are kept.
///
///     w_j = exp(logit_j / temperature) / sum_i exp(logit_i / temperature),  i over all experts
///
/// With `renormalize` i runs over the selected experts instead: the kept weights are divided by
/// their sum (Mixtral, Qwen with norm_topk_prob). Without, they are used as they stand, as OLMoE
/// does. Weights lie in [0, 1]. A NaN or -inf logit has weight 0. Logits of +inf share the weight 1
/// equally and leave 0 to all others, the limit of the formula. Where the sum has no number above
/// -inf, all weights are 0.
///
/// A weight is within 4 ulp of the value in double rounded to float. With temperature 1 it is made
/// of float exps and has the same bits on every machine and by every path
/// (detail/row/exp_sum.hpp). With another temperature it is computed in double and rounded once.
/// The call operator aborts with a message for more than max_experts logits or experts.
/// `temperature` is positive and finite; a Router throws std::invalid_argument otherwise.
struct SoftmaxWeights {
  double temperature = 1.0;
  bool renormalize = false;

  void operator()(std::span<const float> logits, std::span<const std::int32_t> experts,
                  std::span<float> weights) const noexcept {
    detail::expects(logits.size() <= max_experts && experts.size() <= max_experts,
                    "SoftmaxWeights: at most max_experts logits and experts");
    if (temperature != 1.0) {
      weigh_in_double(logits, experts, weights);
    } else if (renormalize) {
      weigh_selected(logits, experts, weights);
    } else {
      weigh_by_all(logits, experts, weights);
    }
  }

  /// How kernels make these weights (Kernel::weight_recipe).
  detail::WeightRecipe recipe() const noexcept {
    using Of = detail::WeightRecipe::Of;
    return {.of = temperature == 1.0 ? Of::softmax : Of::other,
            .renormalize = renormalize,
            .policy = this};
  }

  void validate(int) const {
    if (!(temperature > 0.0 && temperature <= std::numeric_limits<double>::max())) {
      detail::refuse("SoftmaxWeights: temperature must be positive and finite, got " +
                     detail::to_text(temperature));
    }
  }

 private:
  using Row = std::array<float, max_experts>;

  static float logit_of(std::span<const float> logits, std::int32_t expert) noexcept {
    return logits[static_cast<std::size_t>(expert)];
  }

  static void weigh_by_all(std::span<const float> logits, std::span<const std::int32_t> experts,
                           std::span<float> weights) noexcept {
    alignas(64) Row exps;
    std::copy(logits.begin(), logits.end(), exps.begin());
    const double sum = detail::to_exps(exps.data(), static_cast<int>(logits.size()));
    const float factor = sum > 0.0 ? static_cast<float>(1.0 / sum) : 0.0F;
    for (std::size_t i = 0; i < experts.size(); ++i)
      weights[i] = exps[static_cast<std::size_t>(experts[i])] * factor;
  }

  static void weigh_selected(std::span<const float> logits, std::span<const std::int32_t> experts,
                             std::span<float> weights) noexcept {
    alignas(64) Row exps;
    std::ranges::transform(experts, exps.begin(),
                           [&](std::int32_t j) { return logit_of(logits, j); });
    detail::to_exps(exps.data(), static_cast<int>(experts.size()));
    double kept = 0.0;
    for (std::size_t i = 0; i < experts.size(); ++i)
      kept += detail::fixed_point(static_cast<double>(exps[i]));
    const float factor = kept > 0.0 ? static_cast<float>(1.0 / kept) : 0.0F;
    for (std::size_t i = 0; i < experts.size(); ++i) weights[i] = exps[i] * factor;
  }

  void weigh_in_double(std::span<const float> logits, std::span<const std::int32_t> experts,
                       std::span<float> weights) const noexcept {
    const auto each_summand = [&](const auto& take) {
      if (renormalize) {
        for (const std::int32_t j : experts) take(logit_of(logits, j));
      } else {
        for (const float x : logits) take(x);
      }
    };
    float largest = -std::numeric_limits<float>::infinity();
    each_summand([&](float x) { largest = x > largest ? x : largest; });  // skips NaN
    if (largest == -std::numeric_limits<float>::infinity()) {
      std::ranges::fill(weights, 0.0F);
      return;
    }
    const detail::SoftmaxNumerator numerator{largest, temperature};
    double sum = 0.0;
    each_summand([&](float x) { sum += numerator(x); });
    for (std::size_t i = 0; i < experts.size(); ++i)
      weights[i] = static_cast<float>(numerator(logit_of(logits, experts[i])) / sum);
  }
};

template <>
inline constexpr Kernel kernel_of<SoftmaxWeights> = Kernel::weight_recipe;

}  // namespace fdroute::inline v0
