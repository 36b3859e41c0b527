#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "fdroute/detail/checks/check_bias.hpp"
#include "fdroute/detail/row/sqrt_softplus.hpp"
#include "fdroute/ranking/by_logit.hpp"

namespace fdroute::inline v0 {

/// BySqrtSoftplus: experts rank by the root of the softplus of their logit plus a bias of their
/// own,
///
///     key_j = sqrt(log(1 + exp(logit_j))) + bias_j,   -inf where logit_j = -inf
///
/// The root is computed in double and rounded to float once; the sum is made in float. A logit of
/// -inf masks its expert and ranks below all others, whatever the bias; a NaN logit has key NaN and
/// ranks last. The bias steers which experts are selected, and no weight (SqrtSoftplusWeights).
///
/// `bias` is empty, for no bias, or has shape (experts), each value finite or -inf and not all
/// -inf. A Router throws std::invalid_argument otherwise.
///
/// DeepSeek-V4 ranks so.
struct BySqrtSoftplus {
  std::vector<float> bias{};  ///< (experts), or empty
  TieOrder ties = TieOrder::lowest_index;

  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    constexpr float masked = -std::numeric_limits<float>::infinity();
    for (std::size_t j = 0; j < logits.size(); ++j) {
      keys[j] = std::isnan(logits[j]) || logits[j] == masked
                    ? logits[j]
                    : static_cast<float>(detail::sqrt_softplus(logits[j]));
      if (!bias.empty()) keys[j] += bias[j];
    }
  }

  void validate(int experts) const { detail::check_bias("BySqrtSoftplus", bias, experts); }
};

}  // namespace fdroute::inline v0
