#include "measure/estimates.hpp"

#include <cmath>
#include <cstddef>

namespace olmoe {

Estimate cluster_mean(std::span<const WindowSum> windows) {
  double tokens = 0.0;
  double sum = 0.0;
  for (const WindowSum& window : windows) {
    tokens += static_cast<double>(window.tokens);
    sum += window.sum;
  }
  Estimate result{.value = sum / tokens, .error = std::nullopt};
  if (windows.size() < 2) return result;
  double squares = 0.0;
  for (const WindowSum& window : windows) {
    const double deviation = window.sum - result.value * static_cast<double>(window.tokens);
    squares += deviation * deviation;
  }
  const auto n = static_cast<double>(windows.size());
  result.error = std::sqrt(n / (n - 1.0) * squares) / tokens;
  return result;
}

Estimate perplexity_of(const Estimate& nll) {
  Estimate result{.value = std::exp(nll.value), .error = std::nullopt};
  if (nll.error) result.error = result.value * *nll.error;
  return result;
}

Estimate combine(std::span<const Estimate> parts, std::span<const std::int64_t> tokens) {
  double all = 0.0;
  for (const std::int64_t n : tokens) all += static_cast<double>(n);
  Estimate result;
  double variance = 0.0;
  bool known = true;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const double share = static_cast<double>(tokens[i]) / all;
    result.value += share * parts[i].value;
    known = known && parts[i].error.has_value();
    if (known) variance += share * share * *parts[i].error * *parts[i].error;
  }
  if (known) result.error = std::sqrt(variance);
  return result;
}

}  // namespace olmoe
