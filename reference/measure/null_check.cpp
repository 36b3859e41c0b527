#include "measure/null_check.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fdroute/selection/benjamini_hochberg.hpp>
#include <vector>

#include "measure/at.hpp"
#include "measure/null_fit.hpp"

namespace olmoe {
namespace {

/// A token's p-values, ascending: (experts).
using Row = std::vector<double>;

/// Calls use(row) for every token.
template <class Use>
void for_each_row(const fdroute::TabulatedNull& null, const LayerLogits& logits,
                  std::string_view score, const Use& use) {
  const std::vector<float> scores = losing_scores(logits, score, 0);
  const auto experts = at(logits.experts);
  Row row(experts);
  for (std::size_t first = 0; first < scores.size(); first += experts) {
    for (std::size_t e = 0; e < experts; ++e) row[e] = null(static_cast<double>(scores[first + e]));
    std::sort(row.begin(), row.end());
    use(row);
  }
}

double above_half(Row::const_iterator begin, Row::const_iterator end) {
  return static_cast<double>(end - std::upper_bound(begin, end, 0.5));
}

}  // namespace

LoserCheck check_losers(const fdroute::TabulatedNull& null, const LayerLogits& logits,
                        std::string_view score, int trim) {
  LoserCheck check;
  const auto tokens = static_cast<double>(logits.tokens());
  const double losers = logits.experts - trim;
  double counts = 0.0;
  double count_squares = 0.0;
  double pi0_squares = 0.0;
  for_each_row(null, logits, score, [&](const Row& row) {
    const auto first_loser = row.begin() + trim;
    const auto small = std::upper_bound(first_loser, row.end(), 0.05 * 8.0 / 64.0);
    check.below_small += static_cast<double>(small - first_loser) / (losers * tokens);
    const double count = above_half(first_loser, row.end());
    counts += count / tokens;
    count_squares += count * count / tokens;
    const double pi0 =
        (1.0 + above_half(row.begin(), row.end())) / (static_cast<double>(row.size()) / 2.0);
    check.pi0_mean += pi0 / tokens;
    pi0_squares += pi0 * pi0 / tokens;
    check.pi0_above_1 += (pi0 > 1.0 ? 1.0 : 0.0) / tokens;
  });
  const double q = counts / losers;
  check.variance_ratio = (count_squares - counts * counts) / (losers * q * (1.0 - q));
  check.pi0_sd = std::sqrt(std::max(pi0_squares - check.pi0_mean * check.pi0_mean, 0.0));
  return check;
}

SelectionCheck check_selection(const fdroute::TabulatedNull& null, const LayerLogits& logits,
                               std::string_view score, int trim, double alpha) {
  SelectionCheck check;
  const auto tokens = static_cast<double>(logits.tokens());
  for_each_row(null, logits, score, [&](const Row& row) {
    const int count = fdroute::BenjaminiHochberg{alpha}(row);
    check.mean_count += count / tokens;
    if (count > trim) check.below_trim += static_cast<double>(count - trim) / count / tokens;
  });
  return check;
}

}  // namespace olmoe
