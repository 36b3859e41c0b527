#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "fdroute/null/conformal.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::fitted_on;
using test::index;

static_assert(fd::NullDistribution<fd::ConformalNull> && fd::FittedNull<fd::ConformalNull>);

namespace {

constexpr double far = std::numeric_limits<double>::infinity();

}  // namespace

TEST_CASE("ConformalNull counts the calibration scores that reach a score") {
  const fd::ConformalNull null({2.0, -1.0, 0.5, 0.5, far, -far}, fitted_on("zscore"));
  CHECK(null.size() == 6);
  CHECK(null.fitted_on() == "zscore");
  CHECK(null(-far) == 1.0);
  CHECK(null(-2.0) == 6.0 / 7.0);
  CHECK(null(-1.0) == 6.0 / 7.0);
  CHECK(null(std::nextafter(-1.0, 0.0)) == 5.0 / 7.0);
  CHECK(null(0.5) == 5.0 / 7.0);
  CHECK(null(0.6) == 3.0 / 7.0);
  CHECK(null(2.0) == 3.0 / 7.0);
  CHECK(null(1e300) == 2.0 / 7.0);
  CHECK(null(far) == 2.0 / 7.0);
  CHECK(fd::ConformalNull({3.0}, fitted_on("zscore"))(4.0) == 0.5);
}

TEST_CASE("ConformalNull is the definition and never increases") {
  test::Random random(71);
  for (const int n : {1, 2, 10, 1000}) {
    std::vector<double> sample;
    for (int i = 0; i < n; ++i) sample.push_back(std::round(4.0 * random.normal()) / 4.0);
    const fd::ConformalNull null(sample, fitted_on("logit"));
    double before = 1.0;
    for (int step = -32; step <= 32; ++step) {
      const double score = step / 8.0;
      const auto reached =
          std::count_if(sample.begin(), sample.end(), [&](double c) { return c >= score; });
      const double p = null(score);
      CHECK(p == (1.0 + static_cast<double>(reached)) / (n + 1.0));
      CHECK(p <= before);
      before = p;
    }
  }
}

TEST_CASE("p-values of exchangeable scores are uniform on 1/(n+1) .. 1") {
  test::Random random(72);
  const int n = 19;
  const int repeats = 20'000;
  std::vector<int> counts(n + 1);
  for (int repeat = 0; repeat < repeats; ++repeat) {
    std::vector<double> sample;
    for (int i = 0; i < n; ++i) sample.push_back(random.uniform());
    const double p = fd::ConformalNull(sample, fitted_on("logit"))(random.uniform());
    ++counts[index(static_cast<int>(std::lround(p * (n + 1))) - 1)];
  }
  const double expected = static_cast<double>(repeats) / (n + 1);
  for (const int count : counts)
    CHECK(std::abs(count - expected) < 4.0 * std::sqrt(expected * n / (n + 1.0)));
}

TEST_CASE("a sample too small for m / alpha rejects nothing alone, one that is large enough does") {
  const auto count = [](int n) {
    const fd::ConformalNull null(std::vector<double>(index(n), 0.0), fitted_on("logit"));
    const fd::Router router(4, fd::BenjaminiHochberg{0.1}, fd::Logit{}, null, fd::SoftmaxWeights{},
                            fd::ExpertBounds{0});
    test::Batch batch{4};
    batch.add({5.0F, -1.0F, -2.0F, -3.0F});
    return test::routed(router, batch.view()).counts[0];
  };
  CHECK(count(38) == 0);  // 1 / 39 > 0.1 / 4
  CHECK(count(39) == 1);
}

TEST_CASE("ConformalNull's sample is checked, and its score is binding") {
  const auto message = [](std::vector<double> sample, const std::string& score) {
    return test::rejection_of([&] { fd::ConformalNull(sample, fitted_on(score)); });
  };
  CHECK(message({}, "logit") == "ConformalNull: the sample is empty");
  CHECK(message({1.0}, "") == "ConformalNull: provenance.score must name the score of the sample");
  CHECK(message({1.0, std::nan("")}, "logit") == "ConformalNull: calibration[1] is not a number");
  const fd::ConformalNull null({1.0}, fitted_on("zscore"));
  CHECK_THROWS_AS(fd::Router(4, fd::BenjaminiHochberg{}, fd::LogSoftmax{}, null), fd::NullMismatch);
  CHECK_NOTHROW(fd::Router(4, fd::BenjaminiHochberg{}, fd::ZScore{}, null));
}
