#pragma once

#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/checks/check_bias.hpp"
#include "fdroute/detail/row/recipes.hpp"
#include "fdroute/detail/row/sigmoid.hpp"
#include "fdroute/ranking/by_logit.hpp"

namespace fdroute::inline v0 {

/// BySigmoid: experts rank by the sigmoid of their logit plus a bias of their own,
///
///     key_j = sigmoid(logit_j) + bias_j,   -inf where logit_j = -inf
///
/// with sigmoid(x) = 1 / (1 + exp(-x)) in float, within 3 ulp; the sum is made in float, too. The
/// sigmoid is our own, the same bits on every machine (detail/row/sigmoid.hpp). Where it saturates,
/// logits that differ have equal keys, and keys of neighbouring logits may be in either order. A
/// logit of -inf
/// masks its expert and ranks below all others, whatever the bias; a NaN logit has key NaN and
/// ranks last. The bias steers which experts are selected, and no weight (SigmoidWeights reads the
/// logits). A bias of -inf masks its expert for every token.
///
/// `bias` is empty, for no bias, or has shape (experts), each value finite or -inf and not all
/// -inf. A Router throws std::invalid_argument otherwise.
///
/// L. Wang et al., Auxiliary-loss-free load balancing strategy for mixture-of-experts (2024),
/// arXiv:2408.15664
struct BySigmoid {
  std::vector<float> bias{};  ///< (experts), or empty
  TieOrder ties = TieOrder::lowest_index;

  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    for (std::size_t j = 0; j < logits.size(); ++j) {
      keys[j] = key_of(logits[j]);
      if (!bias.empty()) keys[j] += bias[j];
    }
  }

  /// How kernels make these keys (Kernel::key_recipe). Valid as long as the bias.
  detail::KeyRecipe recipe() const noexcept {
    return {.sigmoid = true, .bias = bias.empty() ? nullptr : bias.data()};
  }

  void validate(int experts) const { detail::check_bias("BySigmoid", bias, experts); }

 private:
  static constexpr float masked = -std::numeric_limits<float>::infinity();

  static float key_of(float logit) noexcept {
    return logit == masked ? masked : detail::sigmoid(logit);
  }
};

template <>
inline constexpr Kernel kernel_of<BySigmoid> = Kernel::key_recipe;

}  // namespace fdroute::inline v0
