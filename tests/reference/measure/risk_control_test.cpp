#include "measure/risk_control.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>
#include <vector>

namespace {

constexpr olmoe::RiskLimit limit{.margin = 0.005, .clip = 0.05, .confidence = 0.95};

}  // namespace

TEST_CASE("The p-value of two documents, by hand") {
  // X = 0.5 and 0, m = 0.55. n v = 2 / 4, so the first bet is the largest allowed, 0.75 / 0.45.
  // After X = 0.5 the variance is 1/8 and the second bet is that again.
  const double bet = 0.75 / 0.45;
  const std::vector<double> losses{0.0, -1.0};
  CHECK(olmoe::p_by_betting(losses, limit) ==
        doctest::Approx(1.0 / ((1.0 + bet * 0.05) * (1.0 + bet * 0.55))));
  CHECK(olmoe::p_by_betting({}, limit) == 1.0);
  CHECK(olmoe::p_by_betting(std::vector{0.05, 0.05, 0.05}, limit) == 1.0);
  // What was won before a loss counts.
  const std::vector<double> then_lost{0.0, -1.0, 1.0, 1.0};
  CHECK(olmoe::p_by_betting(then_lost, limit) < 1.0);
}

TEST_CASE("The last safe candidate stands before the first that is not rejected") {
  const std::vector<double> p{0.01, 0.05, 0.2, 0.01};
  std::size_t asked = 0;
  const auto ask = [&](std::size_t i) {
    asked = i;
    return p[i];
  };
  CHECK(olmoe::last_safe(4, ask, 0.95) == 1);
  CHECK(asked == 2);
  CHECK(olmoe::last_safe(2, ask, 0.95) == 1);
  CHECK_FALSE(olmoe::last_safe(4, ask, 0.999).has_value());
  CHECK_FALSE(olmoe::last_safe(0, ask, 0.95).has_value());
}

TEST_CASE("What is chosen loses the margin or more in at most 5 % of the calibrations") {
  // Ten candidates whose documents lose more and more. Losses are skewed: mostly small, at times
  // large. Clipped at 0.05, candidate i loses 0.0016 i - 0.004 on average, so 6 and above are not
  // safe, and 5 is nearly not.
  constexpr std::size_t candidates = 10;
  std::mt19937 random(5);
  const auto mean_of = [](std::size_t i) { return 0.0016 * static_cast<double>(i) - 0.004; };
  for (const std::size_t documents : {30U, 60U, 400U}) {
    CAPTURE(documents);
    constexpr int rounds = 2000;
    int wrong = 0;
    double chosen = 0.0;
    for (int round = 0; round < rounds; ++round) {
      // Two values in [-0.05, 0.05] with the wanted mean; a document's draw is shared by all.
      std::vector<double> draws(documents);
      for (double& draw : draws) draw = std::uniform_real_distribution<double>()(random);
      const auto p = [&](std::size_t i) {
        constexpr double low = -0.008;
        constexpr double high = 0.05;
        const double share = (mean_of(i) - low) / (high - low);
        std::vector<double> losses;
        for (const double draw : draws) losses.push_back(draw < share ? high : low);
        return olmoe::p_by_betting(losses, limit);
      };
      const auto last = olmoe::last_safe(candidates, p, limit.confidence);
      if (last && mean_of(*last) >= limit.margin) ++wrong;
      chosen += last ? static_cast<double>(*last) + 1.0 : 0.0;
    }
    CHECK(wrong <= 0.05 * rounds + 4.0 * std::sqrt(0.05 * 0.95 * rounds));
    if (documents == 400) CHECK(chosen / rounds > 2.0);  // it is not merely timid
  }
}
