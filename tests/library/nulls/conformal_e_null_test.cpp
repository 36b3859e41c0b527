#include "fdroute/null/conformal_e.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "fdroute/concepts.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::fitted_on;

static_assert(fd::NullDistribution<fd::ConformalENull> && fd::FittedNull<fd::ConformalENull>);

TEST_CASE("1 / ConformalENull is the e-value of its definition") {
  const std::vector<double> sample{-1.0, 0.5, 2.0};
  const double rate = 0.7;
  const fd::ConformalENull null(sample, rate, fitted_on("zscore"));
  CHECK(null.size() == 3);
  CHECK(null.fitted_on() == "zscore");
  for (const double score : {-3.0, 0.0, 2.0, 4.0}) {
    double sum = std::exp(rate * score);
    for (const double c : sample) sum += std::exp(rate * c);
    CHECK(null(score) == doctest::Approx(std::fmin(1.0, sum / (4.0 * std::exp(rate * score)))));
  }
  constexpr double infinity = std::numeric_limits<double>::infinity();
  CHECK(null(infinity) == 0.25);
  CHECK(null(-infinity) == 1.0);
  CHECK(fd::ConformalENull({std::vector{-800.0, 900.0}}, 5.0, fitted_on("logit"))(901.0) < 0.34);
}

TEST_CASE("The e-values of exchangeable scores have mean 1") {
  // Each of n + 1 scores in turn against the others: the e-values sum to n + 1 exactly.
  test::Random random(72);
  std::vector<double> scores;
  for (int i = 0; i < 20; ++i) scores.push_back(3.0 + random.normal());
  double sum = 0.0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    std::vector<double> others = scores;
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(i));
    double total = 0.0;
    for (const double s : scores) total += std::exp(1.5 * s);
    const double e = 20.0 * std::exp(1.5 * scores[i]) / total;
    sum += e;
    const double p = fd::ConformalENull(others, 1.5, fitted_on("logit"))(scores[i]);
    CHECK(p == doctest::Approx(std::fmin(1.0, 1.0 / e)));
  }
  CHECK(sum == doctest::Approx(20.0));
}

TEST_CASE("ConformalENull says what it does not take") {
  const auto rejection = [](const std::vector<double>& sample, double rate, const char* score) {
    return test::rejection_of([&] { fd::ConformalENull(sample, rate, fitted_on(score)); });
  };
  CHECK(rejection({}, 1.0, "logit") == "ConformalENull: the sample is empty");
  CHECK(rejection({1.0}, 0.0, "logit") == "ConformalENull: rate must be finite and above 0, got 0");
  CHECK(rejection({1.0, std::nan("")}, 1.0, "logit") ==
        "ConformalENull: calibration[1] is not finite");
  CHECK(rejection({1.0}, 1.0, "") ==
        "ConformalENull: provenance.score must name the score of the sample");
}
