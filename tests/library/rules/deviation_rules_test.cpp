#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "fdroute/selection/berk_jones.hpp"
#include "fdroute/selection/critical_statistic.hpp"
#include "fdroute/selection/higher_criticism.hpp"
#include "library/rule_oracle.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::index;
using Deviation = fd::HigherCriticism::Deviation;

static_assert(fd::DeviationRule<fd::HigherCriticism> && fd::DeviationRule<fd::BerkJones>);

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();

std::vector<double> random_p_values(int m, test::Random& random) {
  const double power = 1.0 + 2.0 * random.uniform();
  std::vector<double> p;
  for (int i = 0; i < m; ++i) p.push_back(std::pow(random.uniform(), power));
  std::sort(p.begin(), p.end());
  return p;
}

}  // namespace

TEST_CASE("HigherCriticism and BerkJones are their definitions") {
  test::Random random(51);
  std::set<int> counts;
  std::vector<int> sizes{1023, 1024};
  for (int m = 1; m <= 130; ++m) sizes.push_back(m);
  for (const int m : sizes) {
    CAPTURE(m);
    std::vector<double> p = random_p_values(m, random);
    for (const bool zeros_and_ones : {false, true}) {
      if (zeros_and_ones) {
        std::fill_n(p.begin(), m / 8, 0.0);
        std::fill_n(p.rbegin(), m / 4, 1.0);
      }
      for (const double search : {0.1, 0.5, 0.99}) {
        for (const double critical : {0.0, 2.0, 5.0}) {
          CAPTURE(search);
          CAPTURE(critical);
          const auto expected = [&](auto statistic) {
            return oracle::argmax_deviation(p, search, critical, statistic);
          };
          const int count = fd::HigherCriticism{search, Deviation::of_p, critical}(p);
          CHECK(count == expected(oracle::higher_criticism_of_p));
          CHECK(fd::HigherCriticism{search, Deviation::of_rank, critical}(p) ==
                expected(oracle::higher_criticism_of_rank));
          CHECK(fd::BerkJones{search, critical}(p) == expected(oracle::berk_jones));
          counts.insert(count);
        }
      }
    }
  }
  CHECK(counts.size() > 30);
}

TEST_CASE("HigherCriticism and BerkJones by hand") {
  const std::vector<double> p{0.01, 0.02, 0.6, 0.9};
  // HC of rank 1 and 2: 2 (0.25 - 0.01) / sqrt(0.01 0.99) = 4.82, 2 0.48 / sqrt(0.02 0.98) = 6.86.
  CHECK(fd::HigherCriticism{.deviation = Deviation::of_p}(p) == 2);
  CHECK(fd::HigherCriticism{0.3, Deviation::of_p}(p) == 1);
  CHECK(fd::HigherCriticism{.deviation = Deviation::of_p, .critical = 6.85}(p) == 2);
  CHECK(fd::HigherCriticism{.deviation = Deviation::of_p, .critical = 6.86}(p) == 0);
  // 2 0.48 / 0.5 = 1.92.
  CHECK(fd::HigherCriticism{.deviation = Deviation::of_rank, .critical = 1.9199}(p) == 2);
  CHECK(fd::HigherCriticism{.deviation = Deviation::of_rank, .critical = 1.9201}(p) == 0);
  // 4 (0.5 log 25 + 0.5 log (0.5 / 0.98)) = 5.092.
  CHECK(fd::BerkJones{.critical = 5.09}(p) == 2);
  CHECK(fd::BerkJones{.critical = 5.1}(p) == 0);
}

TEST_CASE("no deviation, no rejection: p-values of 1, at their expectation, or none") {
  for (const int m : {0, 1, 2, 64}) {
    std::vector<double> p;
    for (int i = 1; i <= m; ++i) p.push_back(static_cast<double>(i) / m);
    const std::vector<double> ones(index(m), 1.0);
    for (const auto& values : {p, ones}) {
      CHECK(fd::HigherCriticism{.deviation = Deviation::of_p}(values) == 0);
      CHECK(fd::HigherCriticism{.deviation = Deviation::of_rank}(values) == 0);
      CHECK(fd::BerkJones{}(values) == 0);
    }
  }
}

TEST_CASE("p-values of 0 deviate most of all") {
  std::vector<double> p(64, 0.9);
  std::fill_n(p.begin(), 5, 0.0);
  CHECK(fd::HigherCriticism{.deviation = Deviation::of_p}(p) == 5);
  CHECK(fd::HigherCriticism{.deviation = Deviation::of_rank}(p) == 5);
  CHECK(fd::BerkJones{}(p) == 5);
  std::fill_n(p.begin(), 64, 0.0);
  CHECK(fd::HigherCriticism{.deviation = Deviation::of_p}(p) == 32);  // half of them are searched
}

TEST_CASE("a boundary is where the statistic reaches the value") {
  const auto check = [](const auto& rule) {
    for (const int m : {2, 10, 64, 1024}) {
      for (const double value : {0.1, 0.5, 2.0, 5.0, 30.0}) {
        double before = 0.0;
        for (int i = 1; i <= m / 2; ++i) {
          const double p = rule.boundary(value, i, m);
          CHECK(p >= before);
          CHECK(p < static_cast<double>(i) / m);
          before = p;
          if (p > 1e-12) CHECK(rule.statistic(p, i, m) == doctest::Approx(value).epsilon(1e-6));
          if (p == 0.0) CHECK(rule.statistic(0.0, i, m) <= value);
        }
      }
    }
  };
  check(fd::HigherCriticism{.deviation = Deviation::of_p});
  check(fd::HigherCriticism{.deviation = Deviation::of_rank});
  check(fd::BerkJones{});
}

TEST_CASE("critical statistics are exact") {
  std::ifstream file(FDROUTE_SOURCE_DIR "/tests/golden/critical_statistic.csv");
  std::string line;
  std::getline(file, line);
  REQUIRE(line == "statistic,n,search,value,probability");
  int compared = 0;
  while (std::getline(file, line)) {
    CAPTURE(line);
    std::istringstream stream(line);
    std::string name;
    std::array<double, 4> numbers{};
    std::getline(stream, name, ',');
    for (double& number : numbers) {
      std::string field;
      std::getline(stream, field, ',');
      number = std::strtod(field.c_str(), nullptr);
    }
    const auto n = static_cast<int>(numbers[0]);
    const double search = numbers[1];
    const double value = numbers[2];
    const double probability = numbers[3];
    const auto check = [&](const auto& rule) {
      if (probability == 0.0) return;  // the statistic cannot become as large
      const double critical = fd::critical_statistic(rule, n, probability);
      CHECK(critical == doctest::Approx(value).epsilon(1e-11));
      ++compared;
    };
    if (name == "hc_p") check(fd::HigherCriticism{search, Deviation::of_p});
    if (name == "hc_rank") check(fd::HigherCriticism{search, Deviation::of_rank});
    if (name == "bj") check(fd::BerkJones{search});
  }
  CHECK(compared == 148);
  // What docs/rules.md says.
  const auto at_64 = [](const auto& rule) { return fd::critical_statistic(rule, 64, 0.05); };
  CHECK(std::abs(at_64(fd::HigherCriticism{.deviation = Deviation::of_p}) - 4.718) < 0.0005);
  CHECK(std::abs(at_64(fd::HigherCriticism{0.5, Deviation::of_rank}) - 2.205) < 0.0005);
  CHECK(std::abs(at_64(fd::BerkJones{}) - 3.755) < 0.0005);
}

TEST_CASE("the smallest of m uniform p-values: the critical statistic in closed form") {
  // With search = 1/m only p(1) counts, and P(p(1) <= b) = 1 - (1 - b)^m.
  for (const int m : {2, 20, 1000}) {
    for (const double level : {1e-6, 0.01, 0.3}) {
      const double b = -std::expm1(std::log1p(-level) / m);
      const auto check = [&](auto rule) {
        rule.search = 1.0 / m;
        CHECK(fd::critical_statistic(rule, m, level) ==
              doctest::Approx(rule.statistic(b, 1, m)).epsilon(1e-6));
      };
      check(fd::HigherCriticism{.deviation = Deviation::of_p});
      check(fd::BerkJones{});
    }
  }
}

TEST_CASE("a gate that is not needed, and levels out of range") {
  CHECK(fd::critical_statistic(fd::HigherCriticism{.deviation = Deviation::of_p}, 64, 1.0) == 0.0);
  CHECK(fd::critical_statistic(fd::BerkJones{}, 64, 0.999) == 0.0);
  CHECK(fd::critical_statistic(fd::HigherCriticism{.deviation = Deviation::of_p}, 1, 0.05) ==
        0.0);  // nothing is searched
  for (const double level : {0.0, 1e-301, -0.1, 1.1, std::nan("")}) {
    CHECK(test::rejection_of([&] {
            fd::critical_statistic(fd::BerkJones{}, 64, level);
          }).starts_with("critical_statistic: level must lie in [1e-300, 1], got "));
  }
  const auto message = [](const auto& rule) {
    return test::rejection_of([&] { rule.validate(64); });
  };
  CHECK(message(fd::HigherCriticism{1.0}) == "HigherCriticism: search must lie in (0, 1), got 1");
  CHECK(message(fd::HigherCriticism{.deviation = Deviation::of_p, .critical = -1.0}) ==
        "HigherCriticism: critical must be finite and >= 0, got -1");
  CHECK(message(fd::HigherCriticism{.deviation = Deviation::of_p, .critical = inf}) ==
        "HigherCriticism: critical must be finite and >= 0, got inf");
  CHECK(message(fd::BerkJones{0.0}) == "BerkJones: search must lie in (0, 1), got 0");
  CHECK(message(fd::BerkJones{0.5, std::nan("")}) ==
        "BerkJones: critical must be finite and >= 0, got nan");
}
