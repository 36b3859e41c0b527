#include "forward/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <fdroute/detail/number/to_text.hpp>
#include <numeric>
#include <stdexcept>
#include <string>

namespace olmoe {

void SamplingOptions::validate() const {
  const auto require = [](bool holds, const char* rule, double value) {
    if (!holds)
      throw std::invalid_argument(std::string("generate: ") + rule + ", got " +
                                  fdroute::detail::to_text(value));
  };
  require(temperature >= 0.0 && std::isfinite(temperature),
          "temperature must be finite and at least 0", temperature);
  require(top_k >= 0, "top_k must be at least 0", top_k);
  require(top_p > 0.0 && top_p <= 1.0, "top_p must lie in (0, 1]", top_p);
  require(min_p >= 0.0 && min_p <= 1.0, "min_p must lie in [0, 1]", min_p);
}

std::vector<double> sampling_weights(std::span<const float> logits,
                                     const SamplingOptions& options) {
  const auto largest = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  std::vector<double> weights(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i)
    weights[i] = std::exp((static_cast<double>(logits[i]) - largest) / options.temperature);

  std::vector<std::size_t> order;  // of the tokens that are left, most likely first
  if (options.top_k > 0 || options.top_p < 1.0) {
    order.resize(logits.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
    std::size_t kept = order.size();
    if (options.top_k > 0) kept = std::min(kept, static_cast<std::size_t>(options.top_k));
    if (options.top_p < 1.0) {
      double left = 0.0;
      for (std::size_t i = 0; i < kept; ++i) left += weights[order[i]];
      const double enough = options.top_p * left;
      double sum = 0.0;
      for (std::size_t i = 0; i < kept; ++i) {
        sum += weights[order[i]];
        if (sum >= enough) kept = i + 1;
      }
    }
    for (std::size_t i = kept; i < order.size(); ++i) weights[order[i]] = 0.0;
  }
  if (options.min_p > 0.0) {
    for (double& weight : weights) {
      if (weight < options.min_p) weight = 0.0;
    }
  }
  return weights;
}

std::int32_t draw(std::span<const double> weights, double uniform) {
  double left = uniform * std::accumulate(weights.begin(), weights.end(), 0.0);
  std::size_t last = 0;  // for a sum that is rounded
  for (std::size_t i = 0; i < weights.size(); ++i) {
    left -= weights[i];
    if (left < 0.0) return static_cast<std::int32_t>(i);
    if (weights[i] > weights[last]) last = i;
  }
  return static_cast<std::int32_t>(last);
}

}  // namespace olmoe
