#include "measure/equal_cost.hpp"

#include <cmath>
#include <cstddef>

namespace olmoe {
namespace {

/// a + weight x b, window by window.
LossWindows plus(LossWindows a, double weight, const LossWindows& b) {
  for (std::size_t text = 0; text < a.size(); ++text) {
    for (std::size_t window = 0; window < a[text].size(); ++window)
      a[text][window].sum += weight * b.at(text).at(window).sum;
  }
  return a;
}

/// exp of the mean over all texts, which weigh as many as their tokens.
Estimate exp_mean(const LossWindows& windows) {
  double sum = 0.0;
  double tokens = 0.0;
  double variance = 0.0;  // the sum's
  bool known = true;
  for (const std::vector<WindowSum>& text : windows) {
    double text_tokens = 0.0;
    for (const WindowSum& window : text) {
      sum += window.sum;
      text_tokens += static_cast<double>(window.tokens);
    }
    const Estimate mean = cluster_mean(text);
    known = known && mean.error.has_value();
    const double error = mean.error.value_or(0.0) * text_tokens;
    variance += error * error;
    tokens += text_tokens;
  }
  Estimate mean{sum / tokens, {}};
  if (known) mean.error = std::sqrt(variance) / tokens;
  return perplexity_of(mean);
}

}  // namespace

Estimate perplexity_ratio(const LossWindows& policy, const LossWindows& other) {
  return exp_mean(plus(policy, -1.0, other));
}

std::optional<Estimate> TopKCurve::ratio(const LossWindows& policy, double mean_experts) const {
  const double floor = std::floor(mean_experts);
  const auto below = windows_.find(static_cast<int>(floor));
  if (below == windows_.end()) return std::nullopt;
  if (mean_experts == floor) return perplexity_ratio(policy, below->second);
  const auto above = windows_.find(static_cast<int>(floor) + 1);
  if (above == windows_.end()) return std::nullopt;
  const double share = mean_experts - floor;
  return exp_mean(plus(plus(policy, share - 1.0, below->second), -share, above->second));
}

std::map<int, double> TopKCurve::perplexities() const {
  std::map<int, double> perplexities;
  for (const auto& [k, windows] : windows_) perplexities.emplace(k, exp_mean(windows).value);
  return perplexities;
}

}  // namespace olmoe
