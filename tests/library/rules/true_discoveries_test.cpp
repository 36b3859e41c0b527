#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <vector>

#include "fdroute/multiple_testing.hpp"
#include "library/support.hpp"

namespace fd = fdroute;

namespace {

/// Simes' test of the hypotheses in the set `mask`.
bool simes_rejects(double alpha, const std::vector<double>& p, unsigned mask) {
  std::vector<double> sorted;
  for (std::size_t j = 0; j < p.size(); ++j) {
    if (mask & (1U << j)) sorted.push_back(p[j]);
  }
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t k = 1; k <= sorted.size(); ++k) {
    if (sorted[k - 1] <= static_cast<double>(k) * alpha / static_cast<double>(sorted.size()))
      return true;
  }
  return false;
}

/// The definition: |S| less the size of its largest subset that closed testing does not reject. A
/// set is rejected if Simes' test rejects it and every set that holds it.
int by_closed_testing(double alpha, const std::vector<double>& p, unsigned selected) {
  const unsigned all = (1U << p.size()) - 1;
  int largest = 0;
  for (unsigned subset = 1; subset <= all; ++subset) {
    if ((subset & selected) != subset) continue;
    bool rejected = true;
    for (unsigned more = subset; more <= all && rejected; ++more) {
      if ((more & subset) == subset) rejected = simes_rejects(alpha, p, more);
    }
    if (!rejected) largest = std::max(largest, __builtin_popcount(subset));
  }
  return __builtin_popcount(selected) - largest;
}

}  // namespace

TEST_CASE("true_discoveries is closed testing with Simes' tests") {
  test::Random random(91);
  for (int round = 0; round < 40; ++round) {
    std::vector<double> p(6);
    for (double& value : p) value = random.uniform() * random.uniform() * random.uniform();
    for (const double alpha : {0.05, 0.2, 0.5}) {
      for (unsigned selected = 1; selected < 64; ++selected) {
        std::vector<std::size_t> indices;
        for (std::size_t j = 0; j < 6; ++j) {
          if (selected & (1U << j)) indices.push_back(j);
        }
        CHECK(fd::true_discoveries(alpha, p, indices) == by_closed_testing(alpha, p, selected));
      }
    }
  }
}

TEST_CASE("true_discoveries of nothing is 0, and indices must be of different p-values") {
  const std::vector<double> p{0.001, 0.5};
  CHECK(fd::true_discoveries(0.05, p, {}) == 0);
  const std::vector<std::size_t> twice{0, 0};
  CHECK_THROWS_AS(fd::true_discoveries(0.05, p, twice), std::invalid_argument);
  const std::vector<std::size_t> beyond{2};
  CHECK_THROWS_AS(fd::true_discoveries(0.05, p, beyond), std::invalid_argument);
}
