#include "measure/null_check.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <fdroute/null/tabulated.hpp>
#include <random>
#include <vector>

namespace {

/// p = exp(-s) for scores from 0 on.
fdroute::TabulatedNull exponential() {
  return fdroute::TabulatedNull::from_log_survival({0.0, 1.0}, {0.0, -1.0}, {.score = "logit"});
}

/// Logits with the given p-values under exponential(), row after row.
olmoe::LayerLogits with_p(const std::vector<double>& p, int experts) {
  olmoe::LayerLogits logits{.values = {}, .counts = {}, .experts = experts};
  for (const double value : p) logits.values.push_back(static_cast<float>(-std::log(value)));
  return logits;
}

}  // namespace

TEST_CASE("What calibrate says of losers, by hand") {
  // Two tokens of five experts, trim 1: losers .004 .6 .7 .8 and .1 .2 .3 .9.
  const auto logits = with_p({0.6, 0.001, 0.7, 0.8, 0.004, 0.1, 0.2, 0.05, 0.3, 0.9}, 5);
  const auto check = olmoe::check_losers(exponential(), logits, "logit", 1);
  CHECK(check.below_small == doctest::Approx(1.0 / 8.0));
  // Losers above 1/2: 3 and 1. Mean 2, variance 1; q = 1/2, so 4 / 4 = 1 is that of independent.
  CHECK(check.variance_ratio == doctest::Approx(1.0));
  // (1 + 3) / 2.5 = 1.6 and (1 + 1) / 2.5 = 0.8.
  CHECK(check.pi0_mean == doctest::Approx(1.2));
  CHECK(check.pi0_sd == doctest::Approx(0.4));
  CHECK(check.pi0_above_1 == doctest::Approx(0.5));

  // BH at 0.3 compares with .06 .12 .18 .24 .3: .001 .004 of the first, .05 .1 of the second. One
  // of each two ranks below the trim.
  const auto selected = olmoe::check_selection(exponential(), logits, "logit", 1, 0.3);
  CHECK(selected.mean_count == doctest::Approx(2.0));
  CHECK(selected.below_trim == doctest::Approx(0.5));
}

TEST_CASE("The variance ratio of independent losers is 1, of equal ones their number") {
  std::mt19937 random(4);
  std::uniform_real_distribution<double> uniform(1e-6, 1.0);
  constexpr int experts = 10;
  std::vector<double> independent;
  std::vector<double> equal;
  for (int t = 0; t < 20'000; ++t) {
    const double p = uniform(random);
    for (int e = 0; e < experts; ++e) {
      independent.push_back(uniform(random));
      equal.push_back(p);
    }
  }
  const auto ratio = [](const std::vector<double>& p) {
    return olmoe::check_losers(exponential(), with_p(p, experts), "logit", 0).variance_ratio;
  };
  CHECK(ratio(independent) == doctest::Approx(1.0).epsilon(0.05));
  CHECK(ratio(equal) == doctest::Approx(10.0).epsilon(0.01));
}
