#pragma once

#include <map>
#include <optional>

namespace olmoe {

/// What fixed top-k gives at a mean number of experts: log perplexity, interpolated linearly between
/// the integers k that were measured next to each other.
class TopKCurve {
 public:
  /// `perplexity` by k.
  explicit TopKCurve(std::map<int, double> perplexity) : perplexity_(std::move(perplexity)) {}

  /// Top-k's perplexity at `mean_experts`; nothing unless the integers on both sides were measured.
  std::optional<double> perplexity_at(double mean_experts) const;

  /// The equal-cost ratio: `perplexity` over top-k's at the same `mean_experts`. Below 1, the policy
  /// is better than top-k at the same cost.
  std::optional<double> ratio(double perplexity, double mean_experts) const;

  const std::map<int, double>& measured() const { return perplexity_; }

 private:
  std::map<int, double> perplexity_;
};

}  // namespace olmoe
