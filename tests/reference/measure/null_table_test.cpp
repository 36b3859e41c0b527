#include "measure/null_table.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <random>
#include <utility>
#include <vector>

#include "reference/error_of.hpp"

namespace {

using olmoe::NullMethod;
using olmoe::NullTable;

double normal_survival(double x) {
  return 0.5 * std::erfc(x / std::numbers::sqrt2);
}

/// n normal scores without sampling noise: quantiles at (i + 1/2) / n, shuffled.
std::vector<float> normal_sample(std::size_t n) {
  std::vector<float> sample;
  for (std::size_t i = 0; i < n; ++i) {
    const double p = (static_cast<double>(i) + 0.5) / static_cast<double>(n);
    double low = -10.0;
    double high = 10.0;
    for (int step = 0; step < 60; ++step) {
      const double middle = (low + high) / 2.0;
      (normal_survival(-middle) < p ? low : high) = middle;
    }
    sample.push_back(static_cast<float>(low));
  }
  std::shuffle(sample.begin(), sample.end(), std::mt19937(1));
  return sample;
}

fdroute::TabulatedNull null_of(const NullTable& table) {
  return olmoe::as_null(table, {.score = "logit"});
}

}  // namespace

TEST_CASE("a null fitted to normal scores is the normal survival function") {
  const auto sample = normal_sample(200'000);
  const NullTable kde = olmoe::fit_null(sample, NullMethod::kde);
  CHECK(kde.score.size() <= 1024);
  CHECK(kde.samples == 200'000);
  CHECK(kde.cdf_error < 1e-6);
  CHECK(kde.bandwidth == doctest::Approx(0.9 * std::pow(200'000, -0.2)).epsilon(0.01));
  CHECK(normal_survival(kde.tail_from) == doctest::Approx(5e-4).epsilon(0.05));
  // Smoothing with bandwidth h is exactly a normal of variance 1 + h^2, until kernels reach the
  // join.
  const double sd = std::sqrt(1.0 + kde.bandwidth * kde.bandwidth);
  const auto null = null_of(kde);
  for (double x = -5.0; x < kde.tail_from - 3.0 * kde.bandwidth; x += 0.01)
    CHECK(null(x) == doctest::Approx(normal_survival(x / sd)).epsilon(2e-3).scale(1e-3));

  const NullTable ecdf = olmoe::fit_null(sample, NullMethod::ecdf);
  CHECK(ecdf.score.size() <= 1024);
  CHECK(ecdf.bandwidth == 0.0);
  CHECK(ecdf.cdf_error < 0.5 / std::sqrt(200'000.0));
  const auto empirical = null_of(ecdf);
  for (double x = -5.0; x < ecdf.tail_from; x += 0.01)
    CHECK(std::abs(empirical(x) - normal_survival(x)) < 0.5 / std::sqrt(200'000.0));
}

TEST_CASE("the kernel estimate is that of the definition") {
  const auto sample = normal_sample(500);
  const NullTable table = olmoe::fit_null(sample, NullMethod::kde);
  const auto null = null_of(table);
  double worst = 0.0;
  for (double x = -4.0; x < table.tail_from; x += 0.003) {
    double sum = 0.0;
    for (const float s : sample) {
      const auto score = static_cast<double>(s);
      const auto q = [&](double from) {
        return normal_survival((from - score) / table.bandwidth) / 500.0;
      };
      sum += score > table.tail_from ? 1.0 / 500.0 : q(x) - q(2.0 * table.tail_from - x);
    }
    worst = std::max(worst, std::abs(null(x) - sum));
  }
  CHECK(worst < 1.5e-6);  // 1e-6 of the table and 5e-7 of the lattice
}

TEST_CASE("at the tail's join p is the sample's share, without a jump, and nowhere increases") {
  // A thin upper tail, which a kernel estimate of all scores would put 1.3 times too high.
  auto sample = normal_sample(200'000);
  for (float& x : sample) x = std::min(x, 2.0F) + 0.3F * std::max(x - 2.0F, 0.0F);
  for (const NullMethod method : {NullMethod::kde, NullMethod::ecdf}) {
    CAPTURE(olmoe::name(method));
    const NullTable table = olmoe::fit_null(sample, method);
    const double join = table.tail_from;
    double above = 0.0;
    for (const float s : sample) above += static_cast<double>(s) > join ? 1.0 / 200'000.0 : 0.0;
    const auto null = null_of(table);
    CHECK(null(join) == doctest::Approx(above).epsilon(1e-9));
    CHECK(null(join + 1e-9) == doctest::Approx(above).epsilon(1e-4));
    CHECK(null(join - 1e-9) == doctest::Approx(above).epsilon(1e-4));
    for (double x = -5.0; x < join + 1.0; x += 0.001) CHECK(null(x + 0.001) <= null(x));
  }
}

TEST_CASE("the shape of a tail is that of its generalised Pareto distribution") {
  for (const double shape : {-0.3, -0.1, 0.0, 0.2}) {
    CAPTURE(shape);
    std::mt19937 random(5);
    std::uniform_real_distribution<double> uniform(0.0, 1.0);
    constexpr int draws = 2000;
    double sum = 0.0;
    double squares = 0.0;
    double error = 0.0;
    for (int draw = 0; draw < draws; ++draw) {
      std::vector<double> excesses;
      for (int i = 0; i < 400; ++i) {
        const double p = 1.0 - uniform(random);
        excesses.push_back(shape == 0.0 ? -3.0 * std::log(p)
                                        : 3.0 / shape * (std::pow(p, -shape) - 1.0));
      }
      std::sort(excesses.begin(), excesses.end());
      const olmoe::TailShape fitted = olmoe::tail_shape(excesses);
      sum += fitted.value / draws;
      squares += fitted.value * fitted.value / draws;
      error += fitted.error / draws;
    }
    CHECK(sum == doctest::Approx(shape).scale(1.0).epsilon(0.01));
    CHECK(error == doctest::Approx(std::sqrt(squares - sum * sum)).epsilon(0.07));
  }
  const std::vector<double> by_hand{1.0, 2.0, 6.0};  // a0 = 3, a1 = (1 + 1) / 3
  CHECK(olmoe::tail_shape(by_hand).value == doctest::Approx(2.0 - 3.0 / (3.0 - 4.0 / 3.0)));
  const std::vector<double> equal{2.0, 2.0};
  CHECK(std::isinf(olmoe::tail_shape(equal).value));
}

TEST_CASE("the tail is exponential with the sample's mean excess, and never ends") {
  std::vector<float> sample;
  for (int i = 0; i < 100'000; ++i)  // quantiles of the exponential distribution of scale 2
    sample.push_back(static_cast<float>(-2.0 * std::log((i + 0.5) / 100'000.0)));
  for (const NullMethod method : {NullMethod::kde, NullMethod::ecdf}) {
    const NullTable table = olmoe::fit_null(sample, method);
    CHECK(table.tail_mean == doctest::Approx(2.0).epsilon(0.01));
    const auto null = null_of(table);
    for (const double x : {20.0, 40.0, 200.0})
      CHECK(std::log(null(x) / null(x + 2.0 * table.tail_mean)) == doctest::Approx(2.0));
    CHECK(null(200.0) > 0.0);
  }
}

TEST_CASE("samples that no null can be fitted to") {
  using olmoe::fit_null;
  const auto fit = [](std::vector<float> sample, NullMethod method) {
    return error_of([&] { fit_null(std::move(sample), method); });
  };
  CHECK(fit(std::vector<float>(99, 1.0F), NullMethod::kde) ==
        "99 scores are too few to fit a null distribution; 100 are needed");
  CHECK(fit(std::vector<float>(100, 1.0F), NullMethod::kde).starts_with("all scores equal 1"));
  auto tied = normal_sample(100);
  for (float& x : tied) x = std::min(x, 0.0F);
  CHECK(fit(tied, NullMethod::kde) ==
        "the largest 11 scores are all equal: there is no tail to fit");
  auto steps = normal_sample(5000);
  for (float& x : steps) x = std::round(4.0F * x) / 4.0F;
  steps.back() = 5.0F;
  CHECK(fit(steps, NullMethod::ecdf).find("too many scores are equal to") == 0);
}
