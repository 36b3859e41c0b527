#include "forward/sampling.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <vector>

namespace {

using olmoe::SamplingOptions;

/// What is left with which probability, step by step from the definition.
std::vector<double> probabilities(const std::vector<float>& logits, const SamplingOptions& o) {
  std::vector<double> p;
  for (const float x : logits) p.push_back(std::exp(static_cast<double>(x) / o.temperature));
  const auto normalise = [&] {
    double sum = 0.0;
    for (const double x : p) sum += x;
    for (double& x : p) x /= sum;
  };
  // How many tokens come before this one: more likely, or as likely with a lower id.
  const auto rank = [&](std::size_t i) {
    int before = 0;
    for (std::size_t j = 0; j < p.size(); ++j)
      before += logits[j] > logits[i] || (logits[j] == logits[i] && j < i) ? 1 : 0;
    return before;
  };
  normalise();
  if (o.top_k > 0) {
    for (std::size_t i = 0; i < p.size(); ++i) {
      if (rank(i) >= o.top_k) p[i] = 0.0;
    }
    normalise();
  }
  if (o.top_p < 1.0) {
    std::vector<double> kept = p;
    for (std::size_t i = 0; i < p.size(); ++i) {
      double before = 0.0;  // probability of the tokens that come before
      for (std::size_t j = 0; j < p.size(); ++j) before += rank(j) < rank(i) ? p[j] : 0.0;
      if (before >= o.top_p) kept[i] = 0.0;
    }
    p = kept;
    normalise();
  }
  const double most = *std::max_element(p.begin(), p.end());
  for (double& x : p) {
    if (x < o.min_p * most) x = 0.0;
  }
  normalise();
  return p;
}

std::vector<double> normalised(std::vector<double> weights) {
  double sum = 0.0;
  for (const double w : weights) sum += w;
  for (double& w : weights) w /= sum;
  return weights;
}

}  // namespace

TEST_CASE("Sampling weights are the definition's probabilities") {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0F, 2.0F);
  for (int round = 0; round < 200; ++round) {
    std::vector<float> logits(20);
    for (float& x : logits) x = std::round(normal(random) * 2.0F) / 2.0F;  // with ties
    SamplingOptions options{.temperature = 0.5 + 0.1 * (round % 10)};
    if (round % 2 == 1) options.top_k = 1 + round % 7;
    if (round % 3 == 1) options.top_p = 0.05 + 0.13 * (round % 7);
    if (round % 5 == 1) options.min_p = 0.01 + 0.1 * (round % 4);
    const auto actual = normalised(olmoe::sampling_weights(logits, options));
    const auto expected = probabilities(logits, options);
    for (std::size_t i = 0; i < logits.size(); ++i)
      CHECK(actual[i] == doctest::Approx(expected[i]).epsilon(1e-12));
  }
}

TEST_CASE("Filters by hand: four tokens of probabilities 1/2, 1/4, 1/8, 1/8") {
  const float l = std::log(2.0F);
  const std::vector<float> quarters{l, 0.0F, 2 * l, 0.0F};
  const auto of = [&](const SamplingOptions& options) {
    return normalised(olmoe::sampling_weights(quarters, options));
  };
  const auto is = [](const std::vector<double>& p, const std::vector<double>& expected) {
    REQUIRE(p.size() == expected.size());
    for (std::size_t i = 0; i < p.size(); ++i) CHECK(p[i] == doctest::Approx(expected[i]));
  };
  is(of({.temperature = 1.0}), {0.25, 0.125, 0.5, 0.125});
  is(of({.temperature = 1.0, .top_k = 3}), {2.0 / 7, 1.0 / 7, 4.0 / 7, 0.0});
  is(of({.temperature = 1.0, .top_p = 0.4}), {0.0, 0.0, 1.0, 0.0});
  is(of({.temperature = 1.0, .top_p = 0.6}), {1.0 / 3, 0.0, 2.0 / 3, 0.0});
  is(of({.temperature = 1.0, .min_p = 0.3}), {1.0 / 3, 0.0, 2.0 / 3, 0.0});
  is(of({.temperature = 0.5}), {4.0 / 22, 1.0 / 22, 16.0 / 22, 1.0 / 22});
}

TEST_CASE("A token is drawn with its probability, and one that is left out never") {
  const std::vector<double> weights{0.0, 1.0, 0.0, 3.0, 0.0};
  std::vector<int> drawn(5);
  constexpr int n = 4000;
  for (int i = 0; i < n; ++i)
    ++drawn[static_cast<std::size_t>(olmoe::draw(weights, i / double{n}))];
  CHECK(drawn == std::vector<int>{0, n / 4, 0, 3 * n / 4, 0});
  CHECK(olmoe::draw(weights, std::nextafter(1.0, 0.0)) == 3);
}

TEST_CASE("Options out of range are refused by name") {
  const auto refused = [](const SamplingOptions& options) {
    CHECK_THROWS_AS(options.validate(), std::invalid_argument);
  };
  refused({.temperature = -1.0});
  refused({.temperature = INFINITY});
  refused({.top_k = -1});
  refused({.top_p = 0.0});
  refused({.top_p = 1.5});
  refused({.min_p = -0.1});
  refused({.min_p = 1.1});
  CHECK_NOTHROW(
      SamplingOptions{.temperature = 0.7, .top_k = 40, .top_p = 0.9, .min_p = 0.05}.validate());
}
