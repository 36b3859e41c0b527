#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/checks/check_policies.hpp"
#include "fdroute/detail/row/recipes.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// Scaled: another policy's weights times a factor.
///
///     w_j = factor * weights_j
///
/// The product is made in float. `factor` is positive and finite; a Router throws
/// std::invalid_argument otherwise, and where `weights` is not valid.
template <class W>
struct Scaled {
  W weights{};
  float factor = 1.0F;

  void operator()(std::span<const float> logits, std::span<const std::int32_t> experts,
                  std::span<float> out) const noexcept {
    weights(logits, experts, out);
    for (float& weight : out) weight *= factor;
  }

  /// How kernels make these weights (Kernel::weight_recipe).
  detail::WeightRecipe recipe() const noexcept requires(kernel_of<W> == Kernel::weight_recipe) {
    detail::WeightRecipe inner = weights.recipe();
    if (inner.factor != 1.0F) return {};  // two products, each rounded
    inner.factor = factor;
    inner.policy = nullptr;
    return inner;
  }

  void validate(int experts) const {
    if (!(factor > 0.0F && factor <= std::numeric_limits<float>::max())) {
      detail::refuse("Scaled: factor must be positive and finite, got ", factor);
    }
    detail::validate_policy(weights, experts);
  }
};

template <class W>
inline constexpr Kernel kernel_of<Scaled<W>> =
    kernel_of<W> == Kernel::weight_recipe ? Kernel::weight_recipe : Kernel::none;

}  // namespace fdroute::inline v0
