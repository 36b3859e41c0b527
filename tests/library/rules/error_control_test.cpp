// What the rules promise, measured: false discovery rates and family-wise error rates on simulated
// p-values. A bound holds within four standard errors of the simulation; an equality, both ways.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "fdroute/multiple_testing.hpp"
#include "fdroute/null/conformal_e.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/benjamini_yekutieli.hpp"
#include "fdroute/selection/berk_jones.hpp"
#include "fdroute/selection/bonferroni.hpp"
#include "fdroute/selection/critical_statistic.hpp"
#include "fdroute/selection/ebh.hpp"
#include "fdroute/selection/higher_criticism.hpp"
#include "fdroute/selection/hochberg.hpp"
#include "fdroute/selection/holm.hpp"
#include "fdroute/selection/hommel.hpp"
#include "fdroute/selection/local_fdr.hpp"
#include "fdroute/selection/sidak.hpp"
#include "fdroute/selection/storey_bh.hpp"
#include "fdroute/selection/two_stage_bky.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::index;

namespace {

constexpr int hypotheses = 64;

/// A mean with its standard error.
struct Mean {
  double sum = 0.0;
  double squares = 0.0;
  int n = 0;

  void add(double value) {
    sum += value;
    squares += value * value;
    ++n;
  }
  double value() const { return sum / n; }
  double error() const { return std::sqrt((squares / n - value() * value()) / n); }
};

/// Sorted p-values and which of them are nulls.
struct Sample {
  std::vector<double> p;
  std::vector<bool> is_null;
};

/// Normal, by Box and Muller: exact in the tail, which the tests are about.
double normal(test::Random& random) {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - random.uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * random.uniform());
}

/// One-sided p-values of normal scores, any two correlated by `correlation`; the first `effects`
/// are shifted.
Sample sample(int effects, double correlation, test::Random& random) {
  const double common = std::sqrt(correlation) * normal(random);
  std::vector<double> p;
  for (int j = 0; j < hypotheses; ++j) {
    const double score = common + std::sqrt(1.0 - correlation) * normal(random) +
                         (j < effects ? 1.0 + 3.0 * j / effects : 0.0);
    p.push_back(0.5 * std::erfc(score / std::numbers::sqrt2));
  }
  std::vector<std::size_t> order(p.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] < p[b]; });
  Sample result;
  for (const std::size_t j : order) {
    result.p.push_back(p[j]);
    result.is_null.push_back(j >= index(effects));
  }
  return result;
}

struct Errors {
  Mean false_share;         // false discovery rate
  Mean any_false;           // family-wise error rate
  Mean last_is_false;       // of the last rejection
  double detections = 0.0;  // share of samples with a rejection
  double rejections = 0.0;  // mean number
};

template <class R>
Errors errors(const R& rule, const std::vector<Sample>& samples) {
  Errors result;
  for (const Sample& s : samples) {
    const int count = rule(s.p);
    const auto false_count =
        static_cast<int>(std::count(s.is_null.begin(), s.is_null.begin() + count, true));
    result.false_share.add(count == 0 ? 0.0 : static_cast<double>(false_count) / count);
    result.any_false.add(false_count > 0 ? 1.0 : 0.0);
    result.last_is_false.add(count > 0 && s.is_null[index(count - 1)] ? 1.0 : 0.0);
    result.detections += (count > 0 ? 1.0 : 0.0) / static_cast<double>(samples.size());
    result.rejections += static_cast<double>(count) / static_cast<double>(samples.size());
  }
  return result;
}

std::vector<Sample> samples(int effects, double correlation) {
  test::Random random(61);
  std::vector<Sample> result;
  for (int i = 0; i < 8000; ++i) result.push_back(sample(effects, correlation, random));
  return result;
}

void check_at_most(const Mean& mean, double bound) {
  CHECK(mean.value() <= bound + 4.0 * mean.error());
}

void check_equal(const Mean& mean, double expected) {
  CHECK(std::abs(mean.value() - expected) <= 4.0 * mean.error());
}

double harmonic(int m) {
  double sum = 0.0;
  for (int i = 1; i <= m; ++i) sum += 1.0 / i;
  return sum;
}

}  // namespace

TEST_CASE("false discovery rates under independence") {
  for (const int effects : {0, 4, 16, 48}) {
    CAPTURE(effects);
    const auto draws = samples(effects, 0.0);
    const double pi0 = 1.0 - static_cast<double>(effects) / hypotheses;
    for (const double alpha : {0.05, 0.3}) {
      CAPTURE(alpha);
      const Errors bh = errors(fd::BenjaminiHochberg{alpha}, draws);
      check_equal(bh.false_share, pi0 * alpha);
      const Errors by = errors(fd::BenjaminiYekutieli{alpha}, draws);
      check_equal(by.false_share, pi0 * alpha / harmonic(hypotheses));
      const Errors storey = errors(fd::StoreyBH{alpha}, draws);
      check_at_most(storey.false_share, alpha);
      const Errors bky = errors(fd::TwoStageBKY{alpha}, draws);
      check_at_most(bky.false_share, alpha);
      check_at_most(errors(fd::EBH{alpha}, draws).false_share, alpha);
      check_equal(errors(fd::LocalFdr{alpha}, draws).last_is_false, pi0 * alpha);
      // What the adaptive rules are for.
      if (effects == 48) {
        CHECK(storey.rejections > 1.1 * bh.rejections);
        CHECK(bky.rejections > bh.rejections);
        CHECK(bh.rejections > by.rejections);
      }
    }
  }
}

TEST_CASE("false discovery rates under positive dependence") {
  for (const int effects : {0, 16}) {
    CAPTURE(effects);
    const auto draws = samples(effects, 0.5);
    const double pi0 = 1.0 - static_cast<double>(effects) / hypotheses;
    for (const double alpha : {0.05, 0.3}) {
      CAPTURE(alpha);
      check_at_most(errors(fd::BenjaminiHochberg{alpha}, draws).false_share, pi0 * alpha);
      check_at_most(errors(fd::BenjaminiYekutieli{alpha}, draws).false_share, pi0 * alpha);
      check_at_most(errors(fd::EBH{alpha}, draws).false_share, alpha);
    }
  }
}

TEST_CASE("Storey's rule exceeds its level where losers depend as those of a token do") {
  // Any two correlated by 0.05: the number of nulls with p > 0.5 varies as much as olmoe calibrate
  // finds it to vary over tokens, about three times as much as that of independent ones.
  constexpr int effects = 4;
  constexpr double alpha = 0.2;
  test::Random random(62);
  Mean bh;
  Mean storey;
  Mean beyond;
  const auto add_false_share = [](Mean& mean, const Sample& s, int count) {
    const auto nulls = std::count(s.is_null.begin(), s.is_null.begin() + count, true);
    mean.add(count == 0 ? 0.0 : static_cast<double>(nulls) / count);
  };
  for (int i = 0; i < 60'000; ++i) {
    const Sample s = sample(effects, 0.05, random);
    add_false_share(bh, s, fd::BenjaminiHochberg{alpha}(s.p));
    add_false_share(storey, s, fd::StoreyBH{alpha}(s.p));
    int large = 0;
    for (std::size_t j = 0; j < s.p.size(); ++j) large += s.is_null[j] && s.p[j] > 0.5 ? 1 : 0;
    beyond.add(large);
  }
  constexpr double nulls = hypotheses - effects;
  const double variance = beyond.squares / beyond.n - beyond.value() * beyond.value();
  CHECK(variance / (nulls / 4.0) == doctest::Approx(3.0).epsilon(0.1));
  CHECK(storey.value() > alpha + 4.0 * storey.error());
  check_at_most(bh, alpha * nulls / hypotheses);
}

TEST_CASE("family-wise error rates under independence and positive dependence") {
  for (const double correlation : {0.0, 0.5}) {
    CAPTURE(correlation);
    for (const int effects : {0, 16}) {
      CAPTURE(effects);
      const auto draws = samples(effects, correlation);
      const int nulls = hypotheses - effects;
      for (const double alpha : {0.05, 0.3}) {
        CAPTURE(alpha);
        const Errors bonferroni = errors(fd::Bonferroni{alpha}, draws);
        check_at_most(bonferroni.any_false, alpha * nulls / hypotheses);
        const Errors sidak = errors(fd::Sidak{alpha}, draws);
        const double by_sidak =
            1.0 - std::pow(1.0 - alpha, static_cast<double>(nulls) / hypotheses);
        check_at_most(sidak.any_false, by_sidak);
        if (correlation == 0.0) check_equal(sidak.any_false, by_sidak);
        const Errors holm = errors(fd::Holm{alpha}, draws);
        check_at_most(holm.any_false, alpha);
        const Errors hochberg = errors(fd::Hochberg{alpha}, draws);
        check_at_most(hochberg.any_false, alpha);
        const Errors hommel = errors(fd::Hommel{alpha}, draws);
        check_at_most(hommel.any_false, alpha);
        // Each rejects what the one before it does.
        CHECK(bonferroni.rejections <= holm.rejections);
        CHECK(holm.rejections <= hochberg.rejections);
        CHECK(hochberg.rejections <= hommel.rejections);
      }
    }
  }
}

TEST_CASE("a cap voids the false discovery rate") {
  // 60 non-nulls at p = 0.04 and 4 uniform nulls. BH at 0.05 rejects the 60 whenever it rejects
  // them, so few of them are nulls; the smallest p-value of all is a null's in about 0.15.
  test::Random random(62);
  Mean uncapped;
  Mean capped;
  Mean bound;
  for (int i = 0; i < 20'000; ++i) {
    std::vector<double> p(60, 0.04);
    for (int j = 0; j < 4; ++j) p.push_back(random.uniform());
    std::vector<std::size_t> order(p.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return p[a] < p[b]; });
    std::vector<double> sorted;
    for (const std::size_t j : order) sorted.push_back(p[j]);
    const int count = fd::BenjaminiHochberg{0.05}(sorted);
    const auto nulls =
        std::count_if(order.begin(), order.begin() + count, [](std::size_t j) { return j >= 60; });
    uncapped.add(count == 0 ? 0.0 : static_cast<double>(nulls) / count);
    capped.add(count > 0 && order.front() >= 60 ? 1.0 : 0.0);
    // Of that one expert the closed bound may say "a non-null" wrongly in 5 % of the rows.
    bound.add(order.front() >= 60 && fd::true_discoveries(0.05, p, std::vector{order.front()}) > 0
                  ? 1.0
                  : 0.0);
  }
  CHECK(std::abs(uncapped.value() - 0.003) < 0.0005);
  CHECK(std::abs(capped.value() - 0.15) < 0.01);
  check_at_most(bound, 0.05);
}

TEST_CASE("no critical value of EBH exceeds 0.84 of BenjaminiYekutieli's") {
  double largest = 0.0;
  for (int m = 1; m <= 256; ++m) {
    for (double alpha = 0.01; alpha <= 0.5; alpha += 0.01) {
      for (double kappa = 0.02; kappa < 1.0; kappa += 0.02) {
        for (const int k : {1, (m + 1) / 2, m})
          largest = std::max(largest, fd::EBH{alpha, kappa}.critical_value(k, m) /
                                          fd::BenjaminiYekutieli{alpha}.critical_value(k, m));
      }
    }
  }
  CHECK(largest <= 0.84);
}

TEST_CASE("e-BH on conformal e-values holds its rate under strong dependence") {
  // All experts' scores share most of their noise, and all p-values the calibration sample.
  test::Random random(63);
  Mean share;
  for (int i = 0; i < 4000; ++i) {
    std::vector<double> calibration;
    for (int c = 0; c < 200; ++c) calibration.push_back(normal(random));
    const fd::ConformalENull null(calibration, 2.0, {.score = "logit"});
    const double common = std::sqrt(0.9) * normal(random);
    std::vector<std::pair<double, bool>> rows;
    for (int j = 0; j < hypotheses; ++j) {
      const bool is_null = j >= 8;
      const double score = common + std::sqrt(0.1) * normal(random) + (is_null ? 0.0 : 6.0);
      rows.emplace_back(null(score), is_null);
    }
    std::sort(rows.begin(), rows.end());
    std::vector<double> p;
    for (const auto& [value, is_null] : rows) p.push_back(value);
    const int count = fd::BenjaminiHochberg{0.3}(p);
    const auto nulls =
        std::count_if(rows.begin(), rows.begin() + count, [](const auto& r) { return r.second; });
    share.add(count == 0 ? 0.0 : static_cast<double>(nulls) / count);
  }
  check_at_most(share, 0.3);
}

TEST_CASE("a gate lets pure noise through at its level, and no gate nearly always") {
  const auto noise = samples(0, 0.0);
  const auto signal = samples(24, 0.0);
  const auto check = [&](auto rule) {
    CHECK(errors(rule, noise).any_false.value() > 0.7);
    CHECK(errors(rule, noise).rejections > 2.0);
    for (const double level : {0.02, 0.2}) {
      rule.critical = fd::critical_statistic(rule, hypotheses, level);
      check_equal(errors(rule, noise).any_false, level);
      CHECK(errors(rule, signal).detections > 4.0 * level);
    }
  };
  check(fd::HigherCriticism{});
  check(fd::HigherCriticism{.deviation = fd::HigherCriticism::Deviation::of_rank});
  check(fd::BerkJones{});
}
