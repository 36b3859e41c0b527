#pragma once

#include <map>
#include <optional>
#include <vector>

#include "measure/estimates.hpp"

namespace olmoe {

/// (texts) x (windows of the text): TextEvaluation::windows of each text of one evaluation.
using LossWindows = std::vector<std::vector<WindowSum>>;

/// Perplexity of `policy` over that of `other`, measured on the same windows. The error is that of
/// the paired windows, texts being strata as in an Evaluation's total.
Estimate perplexity_ratio(const LossWindows& policy, const LossWindows& other);

/// What fixed top-k gives at a mean number of experts: log perplexity, interpolated linearly
/// between the integers k that were measured next to each other.
class TopKCurve {
 public:
  void add(int k, LossWindows windows) { windows_.emplace(k, std::move(windows)); }

  /// The equal-cost ratio: the perplexity of `policy` over top-k's at the same `mean_experts`.
  /// Below 1, the policy is better than top-k at the same cost. Nothing unless the integers on both
  /// sides of `mean_experts` were measured.
  std::optional<Estimate> ratio(const LossWindows& policy, double mean_experts) const;

  /// Perplexity by k.
  std::map<int, double> perplexities() const;

 private:
  std::map<int, LossWindows> windows_;
};

}  // namespace olmoe
