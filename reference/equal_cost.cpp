#include "equal_cost.hpp"

#include <cmath>

namespace olmoe {

std::optional<double> TopKCurve::perplexity_at(double mean_experts) const {
  const double below = std::floor(mean_experts);
  const auto low = perplexity_.find(static_cast<int>(below));
  if (low == perplexity_.end()) return std::nullopt;
  if (mean_experts == below) return low->second;
  const auto high = perplexity_.find(static_cast<int>(below) + 1);
  if (high == perplexity_.end()) return std::nullopt;
  return std::exp(std::lerp(std::log(low->second), std::log(high->second), mean_experts - below));
}

std::optional<double> TopKCurve::ratio(double perplexity, double mean_experts) const {
  const auto fixed = perplexity_at(mean_experts);
  if (!fixed) return std::nullopt;
  return perplexity / *fixed;
}

}  // namespace olmoe
