#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/row/exp_sum.hpp"
#include "fdroute/detail/row/kept_mass.hpp"
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
/// With `mass_exponent` g above 0, the selected weights get back a part of the mass that the
/// others took with them:
///
///     w_j = P_j (P_K / P_S)^g,  P_K = the sum of the mass_k largest P_i,
///                               P_S = the sum of the selected ones
///
/// P being the softmax over all experts. They sum to P_K^g P_S^(1 - g), the geometric mean of what
/// a model of mass_k experts is used to and of what is there. A selection of the mass_k largest is
/// left as it is, to the bit; more than mass_k experts weigh less than P. g = 0 is no factor. g = 1
/// keeps the sum P_K whatever is selected; with mass_k of all experts or more, P_K is 1 and the
/// weights are the renormalised ones. P_K is that of the largest logits, even where a ranking
/// prefers others. NaN and -inf weigh 0. Where +inf is there and none is selected, P_S is 0 and the
/// limit holds: the selected weigh 0 for g < 1 and share P_K for g = 1.
///
/// g for a model that is to run with fewer experts than its own mass_k is fitted on text
/// (`olmoe calibrate --fit-mass`).
///
/// A weight is within 4 ulp of the value in double rounded to float. With temperature 1 it is made
/// of float exps and has the same bits on every machine and by every path
/// (detail/row/exp_sum.hpp). With another temperature it is computed in double and rounded once.
/// The call operator aborts with a message for more than max_experts logits or experts.
/// `temperature` is positive and finite, `mass_exponent` lies in [0, 1] and is 0 with
/// `renormalize`, which would undo it, and `mass_k` is at least 1; a Router throws
/// std::invalid_argument otherwise.
struct SoftmaxWeights {
  double temperature = 1.0;
  bool renormalize = false;
  double mass_exponent = 0.0;
  int mass_k = 8;

  bool operator==(const SoftmaxWeights&) const = default;

  void operator()(std::span<const float> logits, std::span<const std::int32_t> experts,
                  std::span<float> weights) const noexcept {
    detail::expects(logits.size() <= max_experts && experts.size() <= max_experts,
                    "SoftmaxWeights: at most max_experts logits and experts");
    if (mass_exponent != 0.0) {
      weigh_by_mass(logits, experts, weights);
    } else if (temperature != 1.0) {
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
    const Of of_ones = mass_exponent == 0.0 ? Of::softmax : Of::mass;
    return {.of = temperature == 1.0 ? of_ones : Of::other,
            .renormalize = renormalize,
            .mass_k = mass_k,
            .parameter = mass_exponent,
            .policy = this};
  }

  void validate(int) const {
    if (!(temperature > 0.0 && temperature <= std::numeric_limits<double>::max())) {
      detail::refuse("SoftmaxWeights: temperature must be positive and finite, got ", temperature);
    }
    if (!(mass_exponent >= 0.0 && mass_exponent <= 1.0)) {
      detail::refuse("SoftmaxWeights: mass_exponent must lie in [0, 1], got ", mass_exponent);
    }
    if (mass_k < 1) detail::refuse("SoftmaxWeights: mass_k must be at least 1, got ", mass_k);
    if (renormalize && mass_exponent != 0.0) {
      detail::refuse("SoftmaxWeights: renormalize undoes mass_exponent, got ", mass_exponent);
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

  static float largest_of(std::span<const float> numbers) noexcept {
    float largest = -std::numeric_limits<float>::infinity();
    for (const float x : numbers) largest = x > largest ? x : largest;  // skips NaN
    return largest;
  }

  void weigh_by_mass(std::span<const float> logits, std::span<const std::int32_t> experts,
                     std::span<float> weights) const noexcept {
    alignas(64) Row selected;
    std::ranges::transform(experts, selected.begin(),
                           [&](std::int32_t j) { return logit_of(logits, j); });
    const float largest = largest_of(logits);
    const float largest_selected = largest_of({selected.data(), experts.size()});
    if (largest_selected == -std::numeric_limits<float>::infinity()) {
      std::ranges::fill(weights, 0.0F);
      return;
    }
    const double gap = detail::mass_gap(largest, largest_selected, temperature, mass_exponent);
    if (temperature != 1.0) {
      weigh_by_mass_in_double(logits, {selected.data(), experts.size()}, {largest, temperature},
                              {largest_selected, temperature}, gap, weights);
      return;
    }
    alignas(64) Row exps;
    std::copy(logits.begin(), logits.end(), exps.begin());
    const double sum = detail::to_exps(exps.data(), static_cast<int>(logits.size()));
    const double most =
        detail::sum_of_largest(logits, mass_k, [&](std::size_t j) { return exps[j]; });
    detail::to_exps(selected.data(), static_cast<int>(experts.size()));
    double kept = 0.0;
    for (std::size_t i = 0; i < experts.size(); ++i)
      kept += detail::fixed_point(static_cast<double>(selected[i]));
    const double by_mass = detail::mass_factor(most, kept, gap, mass_exponent);
    const auto factor = static_cast<float>(1.0 / sum * by_mass);
    for (std::size_t i = 0; i < experts.size(); ++i) weights[i] = selected[i] * factor;
  }

  void weigh_by_mass_in_double(std::span<const float> logits, std::span<const float> selected,
                               detail::SoftmaxNumerator of_all,
                               detail::SoftmaxNumerator of_selected, double gap,
                               std::span<float> weights) const noexcept {
    double sum = 0.0;
    for (const float x : logits) sum += of_all(x);
    const double most =
        detail::sum_of_largest(logits, mass_k, [&](std::size_t j) { return of_all(logits[j]); });
    double kept = 0.0;
    for (const float x : selected) kept += detail::fixed_point(of_selected(x));
    const double by_mass = detail::mass_factor(most, kept, gap, mass_exponent);
    for (std::size_t i = 0; i < selected.size(); ++i)
      weights[i] = static_cast<float>(of_selected(selected[i]) / sum * by_mass);
  }
};

template <>
inline constexpr Kernel kernel_of<SoftmaxWeights> = Kernel::weight_recipe;

}  // namespace fdroute::inline v0
