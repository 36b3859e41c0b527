#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace olmoe {

/// How the next token is drawn from its logits.
struct SamplingOptions {
  /// 0: the most likely token, and the rest is without effect; otherwise softmax(logits / T).
  double temperature = 0.0;
  int top_k = 0;  ///< only the k most likely tokens; 0: all
  double top_p =
      1.0;  ///< of these only the fewest whose probabilities sum to p or more, at least 1
  double min_p = 0.0;  ///< of these only those with at least min_p times the largest probability

  /// Throws std::invalid_argument unless temperature is finite and at least 0, top_k at least 0,
  /// top_p in (0, 1] and min_p in [0, 1].
  void validate() const;
};

/// Weights proportional to the probability of every token, 0 for those that are left out: shape
/// (vocabulary). The largest weight is 1. Temperature comes first, then top_k, top_p and min_p, in
/// this order, each renormalising what the one before left, as transformers has it. Of equal logits
/// those with lower ids are kept first. Needs temperature above 0.
std::vector<double> sampling_weights(std::span<const float> logits, const SamplingOptions& options);

/// The token in which the running sum of weights first exceeds uniform x their sum, for `uniform`
/// in [0, 1): every token with the probability of its weight.
std::int32_t draw(std::span<const double> weights, double uniform);

}  // namespace olmoe
