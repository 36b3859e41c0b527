#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "fdroute/arch.hpp"
#include "fdroute/null/logistic.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/selection/berk_jones.hpp"
#include "fdroute/selection/critical_statistic.hpp"
#include "fdroute/selection/ebh.hpp"
#include "fdroute/selection/higher_criticism.hpp"
#include "fdroute/selection/sidak.hpp"
#include "library/support.hpp"

// Where a careless formula cancels, overflows or underflows: against arithmetic of 60 digits
// (golden/tails.py) and by hand.

namespace fd = fdroute;
using test::index;
using Deviation = fd::HigherCriticism::Deviation;

namespace {

constexpr double smallest = std::numeric_limits<double>::denorm_min();

struct Line {
  std::string name;
  std::array<double, 4> number{};
};

std::vector<Line> golden(const std::string& file, const std::string& head) {
  std::ifstream stream(FDROUTE_SOURCE_DIR "/tests/golden/" + file);
  std::string text;
  std::getline(stream, text);
  REQUIRE(text == head);
  std::vector<Line> lines;
  while (std::getline(stream, text)) {
    std::istringstream fields(text);
    Line line;
    std::getline(fields, line.name, ',');
    for (double& number : line.number) {
      std::string field;
      std::getline(fields, field, ',');
      number = std::strtod(field.c_str(), nullptr);
    }
    lines.push_back(line);
  }
  return lines;
}

double relative_error(double value, double expected) {
  return std::abs(value - expected) / std::abs(expected);
}

/// The count by vectors; the kernels' p-values are aligned, and 1 after the end.
int vector_count(const fd::HigherCriticism& rule, const std::vector<double>& p) {
  alignas(64) std::array<double, 64> aligned{};
  REQUIRE(p.size() <= aligned.size());
  aligned.fill(1.0);
  std::copy(p.begin(), p.end(), aligned.begin());
  return rule.count<fd::DefaultArch>(aligned.data(), static_cast<int>(p.size()));
}

}  // namespace

TEST_CASE("BerkJones and HigherCriticism have the digits of 60-digit arithmetic") {
  double worst_bj = 0.0;
  double worst_hc = 0.0;
  int compared = 0;
  for (const Line& line : golden("deviation.csv", "statistic,m,i,p,value")) {
    const auto [m_value, i_value, p, expected] = line.number;
    const int m = static_cast<int>(m_value);
    const int i = static_cast<int>(i_value);
    if (line.name == "bj") {
      worst_bj = std::max(worst_bj, relative_error(fd::BerkJones{}.statistic(p, i, m), expected));
    } else {
      const fd::HigherCriticism rule{.deviation = line.name == "hc_p" ? Deviation::of_p
                                                                      : Deviation::of_rank};
      worst_hc = std::max(worst_hc, relative_error(rule.statistic(p, i, m), expected));
    }
    ++compared;
  }
  CHECK(compared == 11000);
  CHECK(worst_bj < 4e-15);
  CHECK(worst_hc < 1e-15);
}

TEST_CASE("nulls and critical values have the digits of 60-digit arithmetic in their tails") {
  int compared = 0;
  for (const Line& line : golden("tails.csv", "function,a,b,c,value")) {
    CAPTURE(line.name);
    const double a = line.number[0];
    const double b = line.number[1];
    const double c = line.number[2];
    const double expected = line.number[3];
    CAPTURE(a);
    CAPTURE(b);
    const auto check = [&](double value, double tolerance) {
      CAPTURE(value);
      CHECK(std::abs(value - expected) <= tolerance * expected + smallest);
      ++compared;
    };
    if (line.name == "sidak") check(fd::Sidak{a}.critical_value(1, static_cast<int>(b)), 4e-16);
    if (line.name == "sidak_adjusted") {
      std::vector<double> p(static_cast<std::size_t>(b), a);
      fd::Sidak{}.adjust(p);
      check(p.front(), 1e-15);
    }
    if (line.name == "ebh") {
      // Powers multiply a relative error: by 1 / (1 - kappa), and rounding the exponent by log p.
      const fd::EBH rule{a, b};
      const double multiplied = 3.0 / (1.0 - b) - std::log(expected);
      check(rule.critical_value(static_cast<int>(c), 64), 3e-16 * (2.0 + multiplied));
    }
    if (line.name == "normal") check(fd::NormalNull{}(a), 1e-12);
    if (line.name == "logistic") check(fd::LogisticNull{0.0, 1.0}(a), 2e-13);
  }
  CHECK(compared > 1300);
}

TEST_CASE("LogisticNull never increases where its formula changes, and ends in the last double") {
  const fd::LogisticNull null{0.0, 1.0};
  double z = 40.0 - 1e-11;
  double before = null(z);
  while (z < 40.0 + 1e-11) {
    z = std::nextafter(z, 50.0);
    const double p = null(z);
    CHECK(p <= before);
    before = p;
  }
  CHECK(null(712.0) > 0.0);
  CHECK(null(745.0) == smallest);
  CHECK(null(746.0) == 0.0);
}

TEST_CASE("BerkJones is not negative near i/m") {
  CHECK(fd::BerkJones{}(std::vector<double>{0.5 - 1e-9, 1.0}) == 1);
  for (const int m : {2, 3, 7, 64, 1000, 1024}) {
    for (int i = 1; i < m; ++i) {
      const double x = static_cast<double>(i) / m;
      double p = x;
      double before = 0.0;
      for (int step = 0; step < 40; ++step) {
        p = std::nextafter(p - std::ldexp(x, step - 53), 0.0);
        if (p < 0.0) break;
        const double value = fd::BerkJones{}.statistic(p, i, m);
        REQUIRE(value > before);
        before = value;
      }
    }
  }
  // d^2 m / (2 x (1 - x)) is the first term of the series in d, and d/x times it the next.
  const double p = 0.25 * (1.0 - 0x1p-40);
  CHECK(relative_error(fd::BerkJones{}.statistic(p, 16, 64), 64 * 0x1p-84 / (2 * 0.25 * 0.75)) <
        1e-11);
}

TEST_CASE("HigherCriticism tells subnormal p-values from 0") {
  for (const int m : {3, 48, 64}) {
    CAPTURE(m);
    const auto counts = [&](const std::vector<double>& first, int expected) {
      std::vector<double> p(index(m), 1.0);
      std::copy(first.begin(), first.end(), p.begin());
      const fd::HigherCriticism rule{.search = 0.9, .deviation = Deviation::of_p};
      CHECK(rule(p) == expected);
      CHECK(vector_count(rule, p) == expected);
    };
    counts({0.0, smallest}, 1);
    counts({0.0, 64 * smallest}, 1);
    counts({smallest, smallest}, 2);
    counts({smallest, 5 * smallest}, 1);  // 2 / sqrt(5) < 1
    counts({smallest, 3 * smallest}, 2);  // 2 / sqrt(3) > 1
    counts({0.0, 0.0}, 2);
  }
  for (int i = 1; i < 64; ++i)
    CHECK(fd::HigherCriticism{.deviation = Deviation::of_p}.statistic(smallest, i, 64) <
          std::numeric_limits<double>::max());
}

TEST_CASE("gates at small levels: the smallest of m p-values, in closed form") {
  // With search = 1/m only p(1) counts, and P(p(1) <= b) = 1 - (1 - b)^m.
  for (const int m : {2, 20, 1000}) {
    CAPTURE(m);
    for (const double level : {1e-6, 1e-13, 1e-14, 1e-17, 1e-100, 1e-300}) {
      CAPTURE(level);
      const double b = -std::expm1(std::log1p(-level) / m);
      const auto check = [&](auto rule) {
        rule.search = 1.0 / m;
        CHECK(relative_error(fd::critical_statistic(rule, m, level), rule.statistic(b, 1, m)) <
              1e-11);
      };
      check(fd::HigherCriticism{.deviation = Deviation::of_p});
      check(fd::BerkJones{});
    }
  }
}

TEST_CASE("gates rise smoothly as the level falls") {
  // From one power of ten to the next, the value of BerkJones rises by some log(10) = 2.30.
  double before = fd::critical_statistic(fd::BerkJones{}, 256, 1e-10);
  for (int power = -11; power >= -18; --power) {
    const double level = std::pow(10.0, power);
    const double value = fd::critical_statistic(fd::BerkJones{}, 256, level);
    CHECK(value - before == doctest::Approx(std::log(10.0)).epsilon(0.05));
    before = value;
  }
}
