#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "fdroute/detail/checks/check_policies.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0 {

/// PerExpertScaled: another policy's weights, each times a factor of its expert's own.
///
///     w_j = factors_j * weights_j
///
/// The product is made in float. `factors` has shape (experts), each value finite; negative ones
/// are taken as they are. A Router throws std::invalid_argument otherwise, and where `weights` is
/// not valid.
///
/// Gemma 4 has such factors (per_expert_scale).
template <class W>
struct PerExpertScaled {
  W weights{};
  std::vector<float> factors{};  ///< (experts)

  void operator()(std::span<const float> logits, std::span<const std::int32_t> experts,
                  std::span<float> out) const noexcept {
    weights(logits, experts, out);
    for (std::size_t i = 0; i < experts.size(); ++i)
      out[i] *= factors[static_cast<std::size_t>(experts[i])];
  }

  void validate(int experts) const {
    if (factors.size() != static_cast<std::size_t>(experts)) {
      detail::refuse("PerExpertScaled: ", factors.size(), " factors for ", experts, " experts");
    }
    for (std::size_t j = 0; j < factors.size(); ++j) {
      constexpr float most = std::numeric_limits<float>::max();
      if (!(factors[j] >= -most && factors[j] <= most)) {
        detail::refuse("PerExpertScaled: factors[", j, "] must be finite, got ", factors[j]);
      }
    }
    detail::validate_policy(weights, experts);
  }
};

}  // namespace fdroute::inline v0
