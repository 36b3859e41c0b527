#include "measure/estimates.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

TEST_CASE("cluster mean and its error, by hand") {
  // mean (3 + 9) / 6 = 2; residuals 3 - 4 = -1 and 9 - 8 = 1; error^2 = 2 (1 + 1) / 36.
  const std::vector<olmoe::WindowSum> windows{{2, 3.0}, {4, 9.0}};
  const auto mean = olmoe::cluster_mean(windows);
  CHECK(mean.value == 2.0);
  REQUIRE(mean.error);
  CHECK(*mean.error == doctest::Approx(1.0 / 3.0));
  const auto perplexity = olmoe::perplexity_of(mean);
  CHECK(perplexity.value == doctest::Approx(std::exp(2.0)));
  CHECK(*perplexity.error == doctest::Approx(std::exp(2.0) / 3.0));

  CHECK_FALSE(olmoe::cluster_mean(std::span(windows).first(1)).error);
  CHECK_FALSE(olmoe::perplexity_of(olmoe::cluster_mean(std::span(windows).first(1))).error);
}

TEST_CASE("estimates of disjoint texts are combined by their tokens, by hand") {
  // Shares 1/4 and 3/4; error^2 = (0.4 / 4)^2 + (3 x 0.4 / 4)^2 = 0.01 + 0.09.
  const std::vector<std::int64_t> tokens{10, 30};
  const std::vector<olmoe::Estimate> parts{{2.0, 0.4}, {4.0, 0.4}};
  const olmoe::Estimate both = olmoe::combine(parts, tokens);
  CHECK(both.value == 3.5);
  CHECK(*both.error == doctest::Approx(std::sqrt(0.1)));
  const std::vector<olmoe::Estimate> one_without{{2.0, 0.4}, {4.0, {}}};
  CHECK(olmoe::combine(one_without, tokens).value == 3.5);
  CHECK_FALSE(olmoe::combine(one_without, tokens).error);
}
