#include "measure/estimates.hpp"

#include <cmath>
#include <cstddef>
#include <numeric>
#include <stdexcept>
#include <string>

namespace olmoe {

std::vector<WindowSum> by_document(std::span<const WindowSum> windows,
                                   std::span<const std::int64_t> windows_of) {
  const auto all = std::accumulate(windows_of.begin(), windows_of.end(), std::int64_t{0});
  if (all != static_cast<std::int64_t>(windows.size()))
    throw std::invalid_argument("by_document: documents of " + std::to_string(all) +
                                " windows, not of " + std::to_string(windows.size()));
  std::vector<WindowSum> documents;
  std::size_t next = 0;
  for (const std::int64_t n : windows_of) {
    WindowSum& sum = documents.emplace_back();
    for (std::int64_t i = 0; i < n; ++i, ++next) {
      sum.tokens += windows[next].tokens;
      sum.sum += windows[next].sum;
    }
  }
  return documents;
}

Estimate cluster_mean(std::span<const WindowSum> clusters) {
  double tokens = 0.0;
  double sum = 0.0;
  for (const WindowSum& cluster : clusters) {
    tokens += static_cast<double>(cluster.tokens);
    sum += cluster.sum;
  }
  Estimate result{.value = sum / tokens, .error = std::nullopt};
  if (clusters.size() < 2) return result;
  double squares = 0.0;
  for (const WindowSum& cluster : clusters) {
    const double deviation = cluster.sum - result.value * static_cast<double>(cluster.tokens);
    squares += deviation * deviation;
  }
  const auto n = static_cast<double>(clusters.size());
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
