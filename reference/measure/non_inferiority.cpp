#include "measure/non_inferiority.hpp"

#include <cmath>
#include <limits>
#include <stdexcept>

#include "measure/student_t.hpp"

namespace olmoe {
namespace {

/// (value - mean) / error: +-infinity or, if both are 0, 0.
double standardised(double distance, double error) {
  if (error > 0.0) return distance / error;
  return distance == 0.0 ? 0.0 : std::copysign(std::numeric_limits<double>::infinity(), distance);
}

}  // namespace

DocumentMean document_mean(std::span<const double> values) {
  DocumentMean mean{.documents = static_cast<std::int64_t>(values.size())};
  const auto n = static_cast<double>(values.size());
  for (const double value : values) mean.value += value / n;
  if (values.size() < 2) return mean;
  double squares = 0.0;
  for (const double value : values) squares += (value - mean.value) * (value - mean.value);
  mean.error = std::sqrt(squares / (n - 1.0) / n);
  return mean;
}

Interval interval(const DocumentMean& mean, double confidence) {
  if (mean.documents < 2) throw std::invalid_argument("interval: needs two documents");
  const double reach =
      student_t_quantile((1.0 + confidence) / 2.0, mean.degrees_of_freedom()) * mean.error;
  return {mean.value - reach, mean.value + reach};
}

double p_not_below(const DocumentMean& mean, double margin) {
  if (mean.documents < least_documents) return 1.0;
  if (mean.error == 0.0) return mean.value < margin ? 0.0 : 1.0;
  return student_t_upper_tail((margin - mean.value) / mean.error, mean.degrees_of_freedom());
}

double p_zero(const DocumentMean& mean) {
  if (mean.documents < least_documents) return 1.0;
  return 2.0 * student_t_upper_tail(std::abs(standardised(mean.value, mean.error)),
                                    mean.degrees_of_freedom());
}

std::vector<std::size_t> test_in_sequence(const std::vector<std::vector<double>>& p, double alpha) {
  std::vector<std::size_t> rejected(p.size(), 0);
  bool any = true;
  while (any) {
    any = false;
    std::size_t unfinished = 0;
    for (std::size_t f = 0; f < p.size(); ++f) unfinished += rejected[f] < p[f].size() ? 1 : 0;
    for (std::size_t f = 0; f < p.size(); ++f) {
      if (rejected[f] == p[f].size()) continue;
      if (p[f][rejected[f]] <= alpha / static_cast<double>(unfinished)) {
        ++rejected[f];
        any = true;
      }
    }
  }
  return rejected;
}

}  // namespace olmoe
