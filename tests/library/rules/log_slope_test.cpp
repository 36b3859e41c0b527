#include "fdroute/selection/log_slope.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "fdroute/null/tabulated.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/selection/absolute_threshold.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "library/support.hpp"

namespace fd = fdroute;

namespace {

constexpr int row_length = 64;

/// Rows of logits, (tokens, row_length).
std::vector<float> rows_of(int tokens) {
  test::Random random(81);
  std::vector<float> logits;
  for (int i = 0; i < tokens * row_length; ++i)
    logits.push_back(static_cast<float>(1.5 * random.normal()));
  return logits;
}

std::vector<float> descending(std::span<const float> row) {
  std::vector<float> sorted(row.begin(), row.end());
  std::sort(sorted.rbegin(), sorted.rend());
  return sorted;
}

}  // namespace

TEST_CASE("LogSlope is its definition") {
  const auto logits = rows_of(200);
  for (const double sigma : {0.0, 0.2, 1.0}) {
    for (int t = 0; t < 200; ++t) {
      const auto row =
          descending(std::span(logits).subspan(test::index(t * row_length), row_length));
      double total = 0.0;
      for (const float x : row) total += std::exp(static_cast<double>(x));
      int expected = 0;
      for (int k = 1; k <= row_length; ++k) {
        const double score = static_cast<double>(row[test::index(k - 1)]) - std::log(total);
        if (score >= -3.0 - sigma * std::log(k)) expected = k;
      }
      CHECK(fd::LogSlope{-3.0, sigma}(row) == expected);
    }
  }
}

TEST_CASE("BH on a null with an exponential tail is LogSlope wherever all that it reads is tail") {
  // The tail from s0 on: p = p0 exp(-(s - s0) / sigma). All selected scores lie there.
  constexpr double s0 = -12.0;
  constexpr double p0 = 0.9;
  constexpr double sigma = 0.7;
  const auto null = fd::TabulatedNull::from_log_survival(
      {s0, s0 + 1.0}, {std::log(p0), std::log(p0) - 1.0 / sigma}, {.score = "log_softmax"});
  const auto logits = rows_of(2000);
  const fd::LogitsView<float> batch(logits.data(), 2000, row_length);
  for (const double alpha : {1e-4, 1e-3, 1e-2}) {
    CAPTURE(alpha);
    const double c = s0 + sigma * std::log(p0 * row_length / alpha);
    const fd::Router bh(row_length, fd::BenjaminiHochberg{alpha}, fd::LogSoftmax{}, null);
    const fd::Router slope(row_length, fd::LogSlope{c, sigma});
    const auto by_test = test::routed(bh, batch);
    const auto by_slope = test::routed(slope, batch);
    // Scores are rounded to float in one and not in the other: near ties may differ.
    int unequal = 0;
    int largest = 0;
    for (std::ptrdiff_t t = 0; t < batch.tokens; ++t) {
      unequal += by_test.counts[t] == by_slope.counts[t] ? 0 : 1;
      largest = std::max(largest, by_test.counts[t]);
    }
    CHECK(unequal <= 2);
    CHECK(largest > 1);
  }
}

TEST_CASE("LogSlope without a slope is AbsoluteThreshold, and says what it does not take") {
  const auto logits = rows_of(100);
  for (int t = 0; t < 100; ++t) {
    const auto row = descending(std::span(logits).subspan(test::index(t * row_length), row_length));
    CHECK(fd::LogSlope{std::log(0.03), 0.0}(row) == fd::AbsoluteThreshold{0.03}(row));
  }
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(fd::LogSlope{-1.0, 0.0}(std::vector{infinity, infinity, 3.0F, nan}) == 2);
  CHECK(fd::LogSlope{-100.0, 0.0}(std::vector{1.0F, 0.0F, -infinity, nan}) == 2);

  const auto message = [](const fd::LogSlope& rule) {
    return test::rejection_of([&] { fd::Router(8, rule); });
  };
  CHECK(message({std::numeric_limits<double>::infinity(), 0.1}) ==
        "LogSlope: c must be finite, got inf");
  CHECK(message({-1.0, -0.1}) == "LogSlope: sigma must be finite and at least 0, got -0.1");
}
