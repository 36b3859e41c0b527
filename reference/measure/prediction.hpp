#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

namespace olmoe {

/// A row of logits as log probabilities, logit - log_sum, in double.
struct Prediction {
  explicit Prediction(std::span<const float> row) : logits(row) {
    const auto largest = std::max_element(row.begin(), row.end());
    argmax = largest - row.begin();
    double sum = 0.0;
    for (const float x : row)
      sum += std::exp(static_cast<double>(x) - static_cast<double>(*largest));
    log_sum = static_cast<double>(*largest) + std::log(sum);
  }

  double log_probability(std::size_t id) const { return static_cast<double>(logits[id]) - log_sum; }

  std::span<const float> logits;
  double log_sum;
  std::ptrdiff_t argmax;
};

}  // namespace olmoe
