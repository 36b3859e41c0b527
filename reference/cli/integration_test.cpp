#include "cli/integration_test.hpp"

#include <cmath>
#include <numeric>

namespace olmoe {

std::vector<double> IntegrationTest::row_means(std::span<const float> logits,
                                               std::size_t vocabulary) {
  std::vector<double> result;
  for (std::size_t start = 0; start < logits.size(); start += vocabulary) {
    const auto row = logits.subspan(start, vocabulary);
    result.push_back(std::accumulate(row.begin(), row.end(), 0.0) /
                     static_cast<double>(vocabulary));
  }
  return result;
}

bool IntegrationTest::agrees(double actual, double expected) {
  return std::abs(actual - expected) <= tolerance + tolerance * std::abs(expected);
}

}  // namespace olmoe
