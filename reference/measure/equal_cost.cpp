#include "measure/equal_cost.hpp"

#include <cmath>
#include <cstddef>
#include <iterator>

namespace olmoe {

DocumentLosses difference(const DocumentLosses& a, const DocumentLosses& b) {
  DocumentLosses result(a.size());
  for (std::size_t d = 0; d < a.size(); ++d) result[d] = a[d] - b.at(d);
  return result;
}

DocumentLosses document_losses(std::span<const WindowSum> windows,
                               std::span<const std::int64_t> windows_of) {
  DocumentLosses losses;
  for (const WindowSum& document : by_document(windows, windows_of))
    losses.push_back(document.sum / static_cast<double>(document.tokens));
  return losses;
}

std::optional<DocumentLosses> CostCurve::at(double mean_experts) const {
  const auto above = losses_.lower_bound(mean_experts);
  if (above == losses_.end()) return std::nullopt;
  if (above->first == mean_experts) return above->second;
  if (above == losses_.begin()) return std::nullopt;
  const auto below = std::prev(above);
  const double distance = above->first - below->first;
  if (distance > widest_gap_) return std::nullopt;
  const double share = (mean_experts - below->first) / distance;
  DocumentLosses losses(below->second.size());
  for (std::size_t d = 0; d < losses.size(); ++d)
    losses[d] = std::lerp(below->second[d], above->second[d], share);
  return losses;
}

std::map<double, double> CostCurve::perplexities() const {
  std::map<double, double> perplexities;
  for (const auto& [experts, losses] : losses_) {
    double mean = 0.0;
    for (const double loss : losses) mean += loss / static_cast<double>(losses.size());
    perplexities.emplace(experts, std::exp(mean));
  }
  return perplexities;
}

}  // namespace olmoe
