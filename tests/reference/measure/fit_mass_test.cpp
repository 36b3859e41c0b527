#include "measure/fit_mass.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>

#include "measure/evaluation.hpp"
#include "measure/null_fit.hpp"
#include "measure/recorded_logits.hpp"
#include "reference/random_texts.hpp"

using olmoe::least_loss;
using olmoe::MassFit;

TEST_CASE("the least loss of a parabola is found, wherever it lies") {
  for (int hundredths = 0; hundredths <= 100; ++hundredths) {
    CAPTURE(hundredths);
    const double least = hundredths / 100.0;
    int calls = 0;
    const MassFit fit = least_loss([&](double g) {
      ++calls;
      return 3.0 + 0.1 * (g - least) * (g - least);
    });
    // At the ends there is no neighbour for a parabola.
    CHECK(std::abs(fit.exponent - least) < 0.031);
    if (hundredths >= 7 && hundredths <= 93) CHECK(fit.exponent == least);
    CHECK(calls <= 10);
    CHECK(fit.curve.size() == static_cast<std::size_t>(calls));
    for (const auto& [g, loss] : fit.curve) {
      CHECK(loss == 3.0 + 0.1 * (g - least) * (g - least));
      CHECK(loss >= fit.curve.at(fit.exponent));
    }
  }
}

TEST_CASE("the least loss of a curve with a steep side, and of one with two minima") {
  for (const double least : {0.11, 0.37, 0.63}) {
    const auto loss = [&](double g) { return std::exp(3.0 * (g - least)) - 3.0 * (g - least); };
    CHECK(std::abs(least_loss(loss).exponent - least) <= 0.02);
  }
  const auto two = [](double g) { return std::min(std::abs(g - 0.2) + 0.01, std::abs(g - 0.8)); };
  CHECK(std::abs(least_loss(two).exponent - 0.8) <= 0.06);
}

TEST_CASE("of equal losses the smallest exponent wins") {
  CHECK(least_loss([](double) { return 1.0; }).exponent == 0.0);
  CHECK(least_loss([](double g) { return g < 0.5 ? 2.0 : 1.0; }).exponent == 0.5);
}

TEST_CASE("a policy with an exponent") {
  using olmoe::with_mass;
  CHECK(with_mass("topk:k=3", 0.37, 8) == "topk:k=3,mass_exponent=0.37,mass_k=8");
  CHECK(with_mass("top_p", 0.5, 8) == "top_p:mass_exponent=0.5,mass_k=8");
  CHECK(with_mass("bh:mass_k=6,alpha=?", 1.0, 8) == "bh:mass_k=6,alpha=?,mass_exponent=1");
  CHECK_THROWS_WITH_AS(with_mass("topk:mass_exponent=0", 0.5, 8),
                       "policy 'topk:mass_exponent=0' has a mass_exponent, so there is none to fit",
                       std::invalid_argument);
}

TEST_CASE("fit_mass() measures the policy's own nll by exponent") {
  const olmoe::Model model(tiny + "plain");
  const auto texts = two_texts(model);
  const olmoe::EvaluationOptions options{.window = 20, .stride = 20};
  const int native = model.config().num_experts_per_tok;
  const MassFit fit = olmoe::fit_mass(model, "topk:k=1", {}, texts, options);
  for (const auto& [g, nll] : fit.curve) {
    const auto policy = olmoe::with_mass("topk:k=1", g, native);
    CHECK(nll == olmoe::evaluate(model, routers(model, policy), texts, options).total.nll.value);
  }
  CHECK(fit.curve.at(0.0) != fit.curve.at(1.0));
  // The model's own k has lost nothing: no exponent changes its weights.
  const auto own = "topk:k=" + std::to_string(native);
  const MassFit nothing = olmoe::fit_mass(model, own, {}, texts, options);
  CHECK(nothing.exponent == 0.0);
  for (const auto& [g, nll] : nothing.curve) CHECK(nll == nothing.curve.at(0.0));
  CHECK_THROWS_AS(olmoe::fit_mass(model, "topk:k=1,renormalize=true", {}, texts, options),
                  std::invalid_argument);
}

TEST_CASE("an open policy is solved with the exponent that was fitted") {
  const olmoe::Model model(tiny + "plain");
  const auto texts = one_text(model);
  const auto nulls =
      olmoe::fit_nulls(olmoe::record_logits(model, routers(model, "native"), texts).fit,
                       {.score = "log_softmax", .trim = 2}, "plain")
          .nulls();
  const auto [solved, fit] = olmoe::solve_with_mass(
      model, {.policy = "bh:alpha=?,min_k=1,max_k=6", .mean_experts = 3.0}, nulls, texts, {});
  CHECK(std::abs(solved.mean_experts - 3.0) <= 0.01);
  const std::string exponent = solved.policy.substr(solved.policy.find("mass_exponent="));
  CHECK(exponent.starts_with(
      olmoe::with_mass("", fit.exponent, model.config().num_experts_per_tok).substr(1)));
}
