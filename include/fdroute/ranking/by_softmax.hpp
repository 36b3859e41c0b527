#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "fdroute/detail/checks/check_bias.hpp"
#include "fdroute/ranking/by_logit.hpp"

namespace fdroute::inline v0 {

/// BySoftmax: experts rank by their share of the softmax over all experts plus a bias of their own,
///
///     key_j = exp(logit_j) / sum_i exp(logit_i) + bias_j,   -inf where logit_j = -inf
///
/// The softmax is computed in double and rounded to float once; the sum with the bias is made in
/// float. Without bias and groups this is the order of the logits, but for shares that float makes
/// equal: use ByLogit. A logit of -inf masks its expert and ranks below all others, whatever the
/// bias; a NaN logit has key NaN, takes no part in the sum and ranks last. Logits of +inf share 1
/// equally, and the others' share is 0. The bias steers which experts are selected, and no weight.
///
/// `bias` is empty, for no bias, or has shape (experts), each value finite or -inf and not all
/// -inf. A Router throws std::invalid_argument otherwise.
///
/// ERNIE 4.5 and LongCat-Flash rank so; the bias is that of L. Wang et al. (2024),
/// arXiv:2408.15664.
struct BySoftmax {
  std::vector<float> bias{};  ///< (experts), or empty
  TieOrder ties = TieOrder::lowest_index;

  void operator()(std::span<const float> logits, std::span<float> keys) const noexcept {
    float largest = masked;
    for (const float x : logits) largest = x > largest ? x : largest;
    double sum = 0.0;
    for (const float x : logits) sum += numerator(x, largest);
    for (std::size_t j = 0; j < logits.size(); ++j) {
      keys[j] = std::isnan(logits[j]) || logits[j] == masked
                    ? logits[j]
                    : static_cast<float>(numerator(logits[j], largest) / sum);
      if (!bias.empty()) keys[j] += bias[j];
    }
  }

  void validate(int experts) const { detail::check_bias("BySoftmax", bias, experts); }

 private:
  static constexpr float masked = -std::numeric_limits<float>::infinity();

  static double numerator(float x, float largest) noexcept {
    if (std::isnan(x)) return 0.0;
    if (std::isinf(largest)) return x == largest ? 1.0 : 0.0;
    return std::exp(static_cast<double>(x) - static_cast<double>(largest));
  }
};

}  // namespace fdroute::inline v0
