#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "fdroute/null/logistic.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "library/oracle.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::fitted_on;
using Table = fd::TabulatedNull;

static_assert(fd::NullDistribution<fd::NormalNull> && !fd::FittedNull<fd::NormalNull>);
static_assert(fd::NullDistribution<fd::LogisticNull> && !fd::FittedNull<fd::LogisticNull>);
static_assert(fd::NullDistribution<Table> && fd::FittedNull<Table>);

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

const std::vector<double> grid{-9.0, -6.5, -5.0, -4.25, -3.0, -1.0, 0.5, 2.0};
const std::vector<double> log_sf{-0.011, -0.23, -0.71, -0.71, -1.93, -4.57, -4.57, -7.29};
const std::vector<double> cdf{0.0, 0.104, 0.353, 0.353, 0.807, 0.9513, 1.0, 1.0};

Table log_table() {
  return Table::from_log_survival(grid, log_sf, fitted_on("zscore"));
}
Table cdf_table() {
  return Table::from_cdf(grid, cdf, fitted_on("zscore"));
}

bool close(double a, double b, double relative) {
  return std::abs(a - b) <= relative * std::abs(b);
}

}  // namespace

TEST_CASE("NormalNull is the upper tail, to full relative accuracy") {
  // R 4.2.2: pnorm(x, lower.tail = FALSE)
  const std::vector<std::pair<double, double>> values{
      {-8, 0.99999999999999933},     {-3, 0.9986501019683699},
      {-1, 0.84134474606854293},     {0, 0.5},
      {0.5, 0.30853753872598694},    {1, 0.15865525393145705},
      {2, 0.022750131948179212},     {3, 0.0013498980316300946},
      {5.5, 1.8989562465887721e-08}, {8, 6.2209605742717849e-16},
      {10, 7.6198530241605269e-24},  {20, 2.7536241186062337e-89},
      {30, 4.9067139271481872e-198}, {37, 5.7255712225245771e-300}};
  for (const auto& value : values) {
    const double x = value.first;
    const double p = value.second;
    CAPTURE(x);
    CHECK(close(fd::NormalNull{}(x), p, 1e-12));
    CHECK(close(fd::NormalNull{3.0, 0.25}(3.0 + 0.25 * x), p, 1e-12));
  }
  CHECK(fd::NormalNull{}(infinity) == 0.0);
  CHECK(fd::NormalNull{}(-infinity) == 1.0);
}

TEST_CASE("LogisticNull is the upper tail, to full relative accuracy") {
  // scipy 1.10.1: scipy.stats.logistic.sf(score, location, scale)
  struct Value {
    double score;
    fd::LogisticNull null;
    double p;
  };
  const std::vector<Value> values{{-8, {}, 0.9999995008680829},
                                  {-1, {0, 1}, 0.7310585786300049},
                                  {0, {}, 0.5},
                                  {0.5, {0, 1}, 0.3775406687981454},
                                  {2, {0, 1}, 0.11920292202211755},
                                  {5.5, {}, 4.6505358766135035e-05},
                                  {10, {0, 1}, 4.5397868702434395e-05},
                                  {36.5, {0, 1}, 1.4068617124461467e-16},
                                  {40, {0, 1}, 4.248354255291589e-18},
                                  {300, {0, 1}, 5.148200222412014e-131},
                                  {700, {0, 1}, 9.85967654375977e-305},
                                  {-3.25, {-4, 0.25}, 0.04742587317756678}};
  for (const Value& value : values) {
    CAPTURE(value.score);
    CHECK(close(value.null(value.score), value.p, 1e-13));
  }
  CHECK(fd::LogisticNull{}(infinity) == 0.0);
  CHECK(fd::LogisticNull{}(-infinity) == 1.0);
  CHECK(fd::LogisticNull{}(1e9) == 0.0);
  CHECK(fd::LogisticNull{}(-1e9) == 1.0);
}

TEST_CASE("NormalNull keeps strong scores apart where 1 - cdf is 0") {
  double before = 1.0;
  int steps = 0;
  for (double x = -5.0; x < 37.5; x += 0.0625, ++steps) {
    const double p = fd::NormalNull{}(x);
    CHECK((p < before && p > 0.0));
    before = p;
  }
  CHECK(steps == 680);
}

TEST_CASE("nulls do not increase from one float to the next") {
  const auto check = [](const auto& null, float from, int steps) {
    double before = null(static_cast<double>(from));
    for (int i = 0; i < steps; ++i) {
      from = std::nextafter(from, test::infinity);
      const double p = null(static_cast<double>(from));
      REQUIRE((p <= before && p >= 0.0));
      before = p;
    }
  };
  test::Random random(31);
  std::vector<double> near{0.0, 1e-30, -1e-30, 4.5, -7.5};
  near.insert(near.end(), grid.begin(), grid.end());
  for (int i = 0; i < 300; ++i) near.push_back(40.0 * random.uniform() - 20.0);
  for (const double x : near) {
    auto from = static_cast<float>(x);
    for (int i = 0; i < 100; ++i) from = std::nextafter(from, -test::infinity);
    check(fd::NormalNull{}, from, 200);
    check(fd::NormalNull{0.3, 7.0}, from, 200);
    check(fd::LogisticNull{}, from, 200);
    check(fd::LogisticNull{0.3, 7.0}, from, 200);
    check(log_table(), from, 200);
    check(cdf_table(), from, 200);
  }
}

TEST_CASE("tables do not increase into a grid point, though the float before it rounds onto it") {
  // From -x on, the float below 0 is a whole segment away after rounding; (b - a) + a need not be
  // b.
  const float before = -std::numeric_limits<float>::denorm_min();
  test::Random random(33);
  int rounded = 0;
  for (int repeat = 0; repeat < 2000; ++repeat) {
    const std::vector<double> x{-0.1 - random.uniform(), 0.0, 1.0};
    const double first = -random.uniform();
    const double second = first - 8.0 * random.uniform() - 1e-3;
    const double low = 0.25 + 0.2 * random.uniform();
    const double high = low + 0.5 + 0.04 * random.uniform();
    rounded += static_cast<int>(first + (second - first) < second);
    rounded += static_cast<int>(low + (high - low) > high);
    const Table by_log = Table::from_log_survival(x, {first, second, -12.0}, fitted_on("logit"));
    const Table by_cdf = Table::from_cdf(x, {low, high, 1.0}, fitted_on("logit"));
    CHECK(by_log(static_cast<double>(before)) >= by_log(0.0));
    CHECK(by_cdf(static_cast<double>(before)) >= by_cdf(0.0));
  }
  CHECK(rounded > 100);
}

TEST_CASE("a power of two is accurate and does not decrease") {
  using fd::detail::power_of_two;
  CHECK(power_of_two(0.0) == 1.0);
  CHECK(power_of_two(-1074.0) == std::numeric_limits<double>::denorm_min());
  CHECK(power_of_two(-1076.0) == 0.0);
  CHECK(power_of_two(-infinity) == 0.0);
  test::Random random(34);
  double worst = 0.0;            // ulp of a normal result
  double worst_subnormal = 0.0;  // smallest numbers of a subnormal one
  for (int i = 0; i < 200'000; ++i) {
    const double scale = std::array{1e-9, 1.0, 30.0, 1100.0}[static_cast<std::size_t>(i) % 4];
    const double y = -scale * random.uniform();
    const long double exact = std::exp2(static_cast<long double>(y));
    const auto error = static_cast<double>(std::abs(power_of_two(y) - exact));
    if (y >= -1022.0) {
      worst = std::max(worst, std::ldexp(error, 52 - std::ilogb(static_cast<double>(exact))));
    } else {
      worst_subnormal = std::max(worst_subnormal, std::ldexp(error, 1074));
    }
  }
  MESSAGE("power of two: ", worst, " ulp, subnormal: ", worst_subnormal);
  CHECK(worst <= 2.0);
  CHECK(worst_subnormal <= 1.0);

  std::vector<double> near;
  for (int n = 0; n < 1080; ++n) near.push_back(-n);  // where the exponent changes
  for (int i = 0; i < 3000; ++i) near.push_back(-2.0 * random.uniform());
  near.push_back(-1e-17);
  int fell = 0;
  for (double y : near) {
    for (int i = 0; i < 50; ++i) y = std::nextafter(y, -infinity);
    double before = power_of_two(y);
    for (int i = 0; i < 100 && y < 0.0; ++i) {
      y = std::nextafter(y, infinity);
      const double next = power_of_two(y);
      fell += static_cast<int>(!(next >= before && next <= 1.0));
      before = next;
    }
  }
  CHECK(fell == 0);
}

TEST_CASE("tables on any grid do not increase, and find every segment") {
  test::Random random(35);
  int fell = 0;
  int wrong = 0;
  int unlike = 0;
  for (int repeat = 0; repeat < 300; ++repeat) {
    const auto n = static_cast<std::size_t>(2 + random.below(repeat % 10 == 0 ? 2000 : 40));
    // From evenly spaced points to all but one in one place.
    const double power = std::array{1.0, 4.0, 40.0, 200.0}[static_cast<std::size_t>(repeat) % 4];
    std::vector<double> x;
    for (std::size_t i = 0; i < n; ++i) x.push_back(-5.0 + 9.0 * std::pow(random.uniform(), power));
    std::sort(x.begin(), x.end());
    x.erase(std::unique(x.begin(), x.end()), x.end());
    if (x.size() < 2) continue;
    std::vector<double> y{-random.uniform()};
    while (y.size() < x.size())
      y.push_back(y.back() -
                  (y.size() + 1 < x.size() && random.below(4) == 0 ? 0.0 : random.uniform()));
    const Table table = Table::from_log_survival(x, y, fitted_on("logit"));
    std::vector<double> at{-infinity, infinity, -1e300, 1e300, -6.0, 5.0};
    for (const double point : x) {
      at.push_back(point);
      at.push_back(std::nextafter(point, infinity));
      at.push_back(std::nextafter(point, -infinity));
      at.push_back(-5.0 + 9.0 * random.uniform());
    }
    std::sort(at.begin(), at.end());
    double before = 1.0;
    for (const double score : at) {
      const double p = table(score);
      fell += static_cast<int>(!(p <= before && p >= 0.0));
      before = p;
      // The value of the grid point below bounds it, as does that of the one above.
      const auto above = std::upper_bound(x.begin(), x.end(), score);
      const auto i = static_cast<std::size_t>(above - x.begin());
      const double most = std::exp(y[i == 0 ? 0 : i - 1]) * (1.0 + 1e-11);
      const double least = i == x.size() ? 0.0 : std::exp(y[i]) * (1.0 - 1e-11);
      wrong += static_cast<int>(!(p <= most && p >= least));
    }
    for (std::size_t i = 0; i < at.size(); i += 16) {
      const std::size_t count = std::min<std::size_t>(16, at.size() - i);
      alignas(64) std::array<double, 16> many{};
      std::copy_n(at.begin() + static_cast<std::ptrdiff_t>(i), count, many.begin());
      table.table()->to_p_values<fd::DefaultArch>(many.data(), 16);
      for (std::size_t j = 0; j < count; ++j) {
        const double score = at[i + j];
        unlike += static_cast<int>(many[j] != (score == -infinity ? 1.0 : table(score)));
      }
    }
  }
  CHECK(fell == 0);
  CHECK(wrong == 0);
  CHECK(unlike == 0);
}

TEST_CASE("tables interpolate as they are defined to") {
  const Table by_log = log_table();
  const Table by_cdf = cdf_table();
  for (std::size_t i = 0; i < grid.size(); ++i) {
    CHECK(close(by_log(grid[i]), std::exp(log_sf[i]), 1e-14));
    CHECK(by_cdf(grid[i]) == 1.0 - cdf[i]);
  }
  test::Random random(32);
  for (int i = 0; i < 20'000; ++i) {
    const double x = 30.0 * random.uniform() - 15.0;
    CHECK(close(by_log(x), oracle::log_survival_table(grid, log_sf, x), 1e-14));
    CHECK(std::abs(by_cdf(x) - oracle::cdf_table(grid, cdf, x)) <= 1e-15);
  }
  CHECK(close(by_log(-4.625), std::exp(-0.71), 1e-15));
  CHECK(by_log(-4.625) == by_log(-5.0));  // a plateau
  CHECK(by_cdf(-4.625) == 1.0 - 0.353);
}

TEST_CASE("tables outside of their grid") {
  const Table by_log = log_table();
  CHECK(close(by_log(-1e9), std::exp(-0.011), 1e-15));
  CHECK(by_log(-infinity) == by_log(-1e9));
  // An exponential tail, along the last segment: -2.72 / 1.5 a unit.
  CHECK(close(by_log(2.0 + 1.5), std::exp(-7.29 - 2.72), 1e-14));
  CHECK(close(by_log(2.0 + 150.0), std::exp(-7.29 - 272.0), 1e-12));
  CHECK(by_log(infinity) == 0.0);
  double before = by_log(2.0);
  for (float x = 2.0F; x < 350.0F; x += 0.125F) {
    const double p = by_log(static_cast<double>(x) + 0.125);
    CHECK((p < before && p > 0.0));
    before = p;
  }

  const Table by_cdf = cdf_table();
  CHECK(by_cdf(-infinity) == 1.0);
  CHECK(by_cdf(0.5) == 0.0);  // saturated: all these tie
  CHECK(by_cdf(1e9) == 0.0);
  CHECK(by_cdf(infinity) == 0.0);
  const Table open = Table::from_cdf({0.0, 1.0}, {0.25, 0.75}, fitted_on("logit"));
  CHECK(open(-3.0) == 0.75);
  CHECK(open(0.5) == 0.5);
  CHECK(open(3.0) == 0.25);
}

TEST_CASE("a table too steep for a finite slope is refused, or still yields p-values") {
  for (const double width : {1e-310, 5e-324}) {
    for (const bool last : {true, false}) {
      const std::vector<double> score =
          last ? std::vector<double>{-1.0, -width, 0.0} : std::vector<double>{-width, 0.0, 1.0};
      double p = 0.0;
      try {
        p = Table::from_log_survival(score, {-1.0, -2.0, -3.0}, fitted_on("logit"))(0.0);
      } catch (const std::invalid_argument&) {
      }
      CHECK((p >= 0.0 && p <= 1.0));
    }
  }
}

TEST_CASE("a table remembers where it comes from") {
  fd::NullProvenance from = fitted_on("log_softmax");
  from.model = "some/model";
  from.layer = 3;
  from.trim = 8;
  from.tokens = 123'456'789'012;
  const Table table = Table::from_log_survival({0.0, 1.0}, {0.0, -1.0}, from);
  CHECK(table.fitted_on() == "log_softmax");
  CHECK(table.provenance().model == "some/model");
  CHECK(table.provenance().layer == 3);
  CHECK(table.provenance().trim == 8);
  CHECK(table.provenance().tokens == 123'456'789'012);
  CHECK(table.size() == 2);
  const Table copy = table;
  CHECK(copy(0.5) == table(0.5));
}

namespace {

std::string log_rejection(std::vector<double> score, std::vector<double> values,
                          std::string name = "logit") {
  return test::rejection_of([&] {
    Table::from_log_survival(std::move(score), std::move(values), fitted_on(std::move(name)));
  });
}

std::string cdf_rejection(std::vector<double> score, std::vector<double> values,
                          std::string name = "logit") {
  return test::rejection_of(
      [&] { Table::from_cdf(std::move(score), std::move(values), fitted_on(std::move(name))); });
}

}  // namespace

TEST_CASE("tables are checked") {
  CHECK(log_rejection({0, 1}, {0, -1}) == "no error");
  CHECK(log_rejection({0, 1}, {0, -1}, "") ==
        "TabulatedNull: provenance.score must name the score of the fit");
  CHECK(log_rejection({0, 1, 2}, {0, -1}) == "TabulatedNull: score has 3 points, log_sf has 2");
  CHECK(log_rejection({}, {}) == "TabulatedNull: at least two grid points are needed");
  CHECK(log_rejection({0}, {0}) == "TabulatedNull: at least two grid points are needed");
  CHECK(log_rejection({0, not_a_number}, {0, -1}) == "TabulatedNull: score[1] = nan is not finite");
  CHECK(log_rejection({-infinity, 0}, {0, -1}) == "TabulatedNull: score[0] = -inf is not finite");
  CHECK(log_rejection({0, 1}, {0, -infinity}) == "TabulatedNull: log_sf[1] = -inf is not finite");
  CHECK(log_rejection({0, 1}, {not_a_number, -1}) ==
        "TabulatedNull: log_sf[0] = nan is not finite");
  CHECK(log_rejection({0, 0.5, 0.5}, {0, -1, -2}) ==
        "TabulatedNull: score[2] = 0.5 after 0.5: scores must ascend strictly");
  CHECK(log_rejection({0, -1.25}, {0, -1}) ==
        "TabulatedNull: score[1] = -1.25 after 0: scores must ascend strictly");
  CHECK(log_rejection({0, 1, 2}, {-1, -0.5, -2}) ==
        "TabulatedNull: log_sf[1] = -0.5 after -1: log_sf must not increase");
  CHECK(log_rejection({0, 1}, {0.125, -1}) == "TabulatedNull: log_sf must be <= 0, got 0.125");
  CHECK(log_rejection({0, 1, 2}, {0, -1, -1}) ==
        "TabulatedNull: the last two log_sf are equal; their slope defines the tail");

  CHECK(cdf_rejection({0, 1}, {0, 1}) == "no error");
  CHECK(cdf_rejection({0, 1}, {1, 1}) == "no error");
  CHECK(cdf_rejection({0, 1}, {0, 1}, "") ==
        "TabulatedNull: provenance.score must name the score of the fit");
  CHECK(cdf_rejection({0, 1}, {0, 0.5, 1}) == "TabulatedNull: score has 2 points, cdf has 3");
  CHECK(cdf_rejection({0}, {0}) == "TabulatedNull: at least two grid points are needed");
  CHECK(cdf_rejection({0, infinity}, {0, 1}) == "TabulatedNull: score[1] = inf is not finite");
  CHECK(cdf_rejection({0, 1}, {0, not_a_number}) == "TabulatedNull: cdf[1] = nan is not finite");
  CHECK(cdf_rejection({1, 0}, {0, 1}) ==
        "TabulatedNull: score[1] = 0 after 1: scores must ascend strictly");
  CHECK(cdf_rejection({0, 1}, {0.5, 0.25}) ==
        "TabulatedNull: cdf[1] = 0.25 after 0.5: cdf must not decrease");
  CHECK(cdf_rejection({0, 1}, {-0.5, 1}) == "TabulatedNull: cdf must lie in [0, 1], got -0.5 .. 1");
  CHECK(cdf_rejection({0, 1}, {0, 1.5}) == "TabulatedNull: cdf must lie in [0, 1], got 0 .. 1.5");
}

TEST_CASE("NormalNull's parameters are checked by the router") {
  const auto rejection = [](double mean, double sd) {
    return test::rejection_of([&] {
      fd::Router(4, fd::BenjaminiHochberg{}, fd::ZScore{}, fd::NormalNull{mean, sd});
    });
  };
  CHECK(rejection(-3.0, 0.5) == "no error");
  CHECK(rejection(not_a_number, 1.0) == "NormalNull: mean must be finite, got nan");
  CHECK(rejection(-infinity, 1.0) == "NormalNull: mean must be finite, got -inf");
  CHECK(rejection(0.0, 0.0) == "NormalNull: sd must be positive and finite, got 0");
  CHECK(rejection(0.0, -1.5) == "NormalNull: sd must be positive and finite, got -1.5");
  CHECK(rejection(0.0, not_a_number) == "NormalNull: sd must be positive and finite, got nan");
  CHECK(rejection(0.0, infinity) == "NormalNull: sd must be positive and finite, got inf");
}

TEST_CASE("LogisticNull's parameters are checked by the router") {
  const auto rejection = [](double location, double scale) {
    return test::rejection_of([&] {
      fd::Router(4, fd::BenjaminiHochberg{}, fd::ZScore{}, fd::LogisticNull{location, scale});
    });
  };
  CHECK(rejection(-3.0, 0.5) == "no error");
  CHECK(rejection(infinity, 1.0) == "LogisticNull: location must be finite, got inf");
  CHECK(rejection(0.0, 0.0) == "LogisticNull: scale must be positive and finite, got 0");
  CHECK(rejection(0.0, not_a_number) == "LogisticNull: scale must be positive and finite, got nan");
}

TEST_CASE("a router refuses a null that was fitted on another score") {
  const fd::BenjaminiHochberg rule;
  CHECK(test::rejection_of([&] { fd::Router(4, rule, fd::ZScore{}, log_table()); }) == "no error");
  const std::string log_softmax =
      "Router: the null distribution was fitted on score 'zscore', the router uses 'log_softmax'";
  CHECK(test::rejection_of([&] { fd::Router(4, rule, fd::LogSoftmax{}, log_table()); }) ==
        log_softmax);
  CHECK(test::rejection_of([&] { fd::Router(4, rule, fd::LogSoftmax{}, cdf_table()); }) ==
        log_softmax);
  CHECK(test::rejection_of([&] { fd::Router(4, rule, fd::Logit{}, cdf_table()); }) ==
        "Router: the null distribution was fitted on score 'zscore', the router uses 'logit'");
  CHECK_THROWS_AS(fd::Router(4, rule, fd::Logit{}, log_table()), fd::NullMismatch);
}

TEST_CASE("NormalNull with an extreme deviation") {
  // (score - mean) / (sd sqrt(2)) may divide by an overflowed or an underflowed product.
  const fd::NormalNull wide{0.0, std::numeric_limits<double>::max()};
  CHECK(wide(0.0) == 0.5);
  CHECK(wide(infinity) == 0.0);
  CHECK(wide(-infinity) == 1.0);
  const fd::NormalNull narrow{0.0, std::numeric_limits<double>::denorm_min()};
  CHECK(narrow(0.0) == 0.5);
  CHECK(narrow(1.0) == 0.0);
  CHECK(narrow(-1.0) == 1.0);
}
