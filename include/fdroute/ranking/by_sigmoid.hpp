#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "fdroute/detail/text.hpp"
#include "fdroute/ranking/by_logit.hpp"

namespace fdroute::inline v0 {

/// BySigmoid: experts rank by the sigmoid of their logit plus a bias of their own,
///
///     key_j = sigmoid(logit_j) + bias_j
///
/// sigmoid(x) = 1 / (1 + exp(-x)) computed in double and rounded to float once; the sum is made in
/// float. Where the sigmoid saturates, logits that differ have equal keys. The bias steers which
/// experts are selected and no weight (SigmoidWeights reads the logits). `bias` has one finite
/// value per expert, or none at all for no bias; a Router throws std::invalid_argument otherwise.
///
/// L. Wang et al., Auxiliary-loss-free load balancing strategy for mixture-of-experts (2024),
/// section 3.1, arXiv:2408.15664
struct BySigmoid {
  std::vector<float> bias{};
  TieOrder ties = TieOrder::lowest_index;

  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    for (std::size_t j = 0; j < logits.size(); ++j) {
      const double sigmoid = 1.0 / (1.0 + std::exp(-static_cast<double>(logits[j])));
      keys[j] = static_cast<float>(sigmoid);
      if (!bias.empty()) keys[j] += bias[j];
    }
  }

  void validate(int experts) const {
    if (!bias.empty() && bias.size() != static_cast<std::size_t>(experts)) {
      throw std::invalid_argument("BySigmoid: bias has " + std::to_string(bias.size()) +
                                  " values for " + std::to_string(experts) + " experts");
    }
    for (std::size_t j = 0; j < bias.size(); ++j) {
      if (!std::isfinite(bias[j])) {
        throw std::invalid_argument("BySigmoid: bias[" + std::to_string(j) +
                                    "] = " + detail::to_text(bias[j]) + " is not finite");
      }
    }
  }
};

}  // namespace fdroute::inline v0
