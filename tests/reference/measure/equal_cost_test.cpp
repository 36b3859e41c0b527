#include "measure/equal_cost.hpp"

#include <doctest/doctest.h>

#include <cmath>

TEST_CASE("Equal cost: log perplexity is interpolated between integer k") {
  // Two texts; 10 + 10 and 20 tokens. Mean losses: k = 4: 2.0, k = 5: 1.5, the policy: 1.6.
  const olmoe::LossWindows four{{{10, 22.0}, {10, 18.0}}, {{10, 20.0}, {10, 20.0}}};
  const olmoe::LossWindows five{{{10, 16.0}, {10, 14.0}}, {{10, 15.0}, {10, 15.0}}};
  const olmoe::LossWindows policy{{{10, 17.0}, {10, 15.0}}, {{10, 16.0}, {10, 16.0}}};
  olmoe::TopKCurve curve;
  curve.add(4, four);
  curve.add(5, five);

  CHECK(curve.perplexities().at(4) == doctest::Approx(std::exp(2.0)));
  CHECK(curve.ratio(policy, 4.0)->value == doctest::Approx(std::exp(-0.4)));
  CHECK(curve.ratio(policy, 5.0)->value == doctest::Approx(std::exp(0.1)));
  // At 4.5, top-k has log perplexity 1.75.
  CHECK(curve.ratio(policy, 4.5)->value == doctest::Approx(std::exp(1.6 - 1.75)));
  CHECK_FALSE(curve.ratio(policy, 3.99).has_value());
  CHECK_FALSE(curve.ratio(policy, 5.01).has_value());

  // Differences to k = 5 are 1 in all four windows: no error. To k = 4 they are -5, -3, -4, -4: the
  // first text's mean -0.4 has error^2 = 2 x (1 + 1) / 20^2 = 0.01, which weighs (20 / 40)^2.
  CHECK(*curve.ratio(policy, 5.0)->error == doctest::Approx(0.0).epsilon(1e-9));
  CHECK(*curve.ratio(policy, 4.0)->error == doctest::Approx(std::exp(-0.4) * 0.05));
  CHECK_FALSE(olmoe::perplexity_ratio({{{10, 17.0}}}, {{{10, 22.0}}}).error.has_value());
}
