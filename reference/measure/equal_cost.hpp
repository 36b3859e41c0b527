#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "measure/estimates.hpp"

namespace olmoe {

/// (documents): mean negative log likelihood of each document's predicted tokens.
using DocumentLosses = std::vector<double>;

/// a - b, document by document.
DocumentLosses difference(const DocumentLosses& a, const DocumentLosses& b);

/// The documents' losses from those of their windows: `windows` stand document after document, of
/// which document d has windows_of[d].
DocumentLosses document_losses(std::span<const WindowSum> windows,
                               std::span<const std::int64_t> windows_of);

/// What a rival costs by its mean number of experts, or of experts loaded. Between two that were
/// measured, its log perplexity is interpolated linearly: by mean experts, that is the rival which
/// draws one of the two at random for each token, so it can be had, and it has the mean.
class CostCurve {
 public:
  /// Points more than `widest_gap` apart are not joined.
  explicit CostCurve(double widest_gap = 1.0) : widest_gap_(widest_gap) {}

  void add(double mean_experts, DocumentLosses losses) {
    losses_.emplace(mean_experts, std::move(losses));
  }

  /// The documents' losses at a mean. Nothing unless points at most `widest_gap` apart were
  /// measured on both sides, or one just there.
  std::optional<DocumentLosses> at(double mean_experts) const;

  /// exp of the mean over documents, by mean experts.
  std::map<double, double> perplexities() const;

 private:
  double widest_gap_;
  std::map<double, DocumentLosses> losses_;
};

}  // namespace olmoe
