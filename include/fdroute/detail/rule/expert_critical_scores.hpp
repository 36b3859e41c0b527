#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/rule/critical_scores.hpp"

namespace fdroute::inline v0::detail {

/// The critical scores of a rule with a null distribution for each of m experts: expert j has
/// p_j <= critical_value(k, m) exactly when its score is >= t_k[j].
///
/// The table has a row for some k, each of the experts' t_k and NaN, which nothing reaches, up to
/// the next multiple of 64. These k are 1 .. most_rows and m: small counts, and the one that a
/// step-up rule starts with.
class ExpertCriticalScores {
 public:
  static constexpr int most_rows = 32;

  template <CriticalValueRule R, ExpertNull N>
  static std::vector<float> table(const R& rule, const N& null, int experts) {
    const int stride = stride_of(experts);
    const int rows = std::min(experts, most_rows + 1);
    std::vector<float> table(static_cast<std::size_t>(rows) * static_cast<std::size_t>(stride),
                             std::numeric_limits<float>::quiet_NaN());
    for (int row = 0; row < rows; ++row) {
      const double level = rule.critical_value(row < most_rows ? row + 1 : experts, experts);
      for (int j = 0; j < experts; ++j) {
        table[static_cast<std::size_t>(row * stride + j)] =
            critical_score([&](double score) { return null(score, j); }, level);
      }
    }
    return table;
  }

  ExpertCriticalScores(const float* table, int experts) noexcept
      : table_(table), experts_(experts), stride_(stride_of(experts)) {}

  int rows() const noexcept { return std::min(experts_, most_rows + 1); }

  const float* row(int i) const noexcept { return table_ + std::ptrdiff_t{stride_} * i; }

  /// The row of t_k for k in 1 .. m, or a null pointer.
  const float* of_count(int k) const noexcept {
    if (k <= most_rows) return row(k - 1);
    return k == experts_ ? row(most_rows) : nullptr;
  }

 private:
  static constexpr int stride_of(int experts) noexcept { return (experts + 63) / 64 * 64; }

  const float* table_;
  int experts_;
  int stride_;
};

}  // namespace fdroute::inline v0::detail
