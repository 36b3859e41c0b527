#include "measure/null_fit.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "formats/safetensors.hpp"
#include "measure/null_table.hpp"
#include "measure/recorded_logits.hpp"
#include "reference/error_of.hpp"
#include "reference/random_texts.hpp"
#include "reference/temp_dir.hpp"
#include "routing/nulls.hpp"
#include "routing/nulls_model.hpp"

namespace {

using olmoe::LayerLogits;

LayerLogits random_logits(std::size_t tokens, int experts) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  LayerLogits logits{.values = {}, .counts = {}, .experts = experts};
  for (std::size_t i = 0; i < tokens * static_cast<std::size_t>(experts); ++i)
    logits.values.push_back(normal(random));
  return logits;
}

}  // namespace

TEST_CASE("losing scores: all but each token's largest, as the score defines them") {
  LayerLogits logits{
      .values = {1.0F, 4.0F, 2.0F, 3.0F, 0.0F, -1.0F, 7.0F, 7.0F}, .counts = {}, .experts = 4};
  CHECK(olmoe::losing_scores(logits, "logit", 0) == logits.values);
  auto losing = olmoe::losing_scores(logits, "logit", 2);
  REQUIRE(losing.size() == 4);
  std::sort(losing.begin(), losing.end());
  CHECK(losing == std::vector<float>{-1.0F, 0.0F, 1.0F, 2.0F});

  const auto log_p = olmoe::losing_scores(logits, "log_softmax", 0);
  double mass = 0.0;
  for (std::size_t i = 0; i < 4; ++i) mass += std::exp(static_cast<double>(log_p[i]));
  CHECK(mass == doctest::Approx(1.0));
  const auto z = olmoe::losing_scores(logits, "zscore", 0);
  CHECK(std::accumulate(z.begin(), z.begin() + 4, 0.0) == doctest::Approx(0.0));
  CHECK(z[1] == doctest::Approx(1.5 / std::sqrt(1.25)));

  CHECK_THROWS_AS(olmoe::losing_scores(logits, "rank", 0), std::invalid_argument);
  CHECK_THROWS_AS(olmoe::losing_scores(logits, "logit", 4), std::invalid_argument);
  logits.values[5] = std::nanf("");
  CHECK(error_of([&] { olmoe::losing_scores(logits, "logit", 0); }) ==
        "token 1 has a router score that is not finite");
}

TEST_CASE("the losers' p-values are uniform on tokens that the fit has not seen") {
  const LayerLogits all = random_logits(6000, 32);
  LayerLogits fit = all;
  fit.values.resize(all.values.size() / 2);
  LayerLogits held_out = all;
  held_out.values.erase(held_out.values.begin(),
                        held_out.values.begin() + static_cast<std::ptrdiff_t>(fit.values.size()));
  for (const char* score : {"logit", "log_softmax", "zscore", "robust_zscore"}) {
    for (const int trim : {0, 4}) {
      CAPTURE(score);
      CAPTURE(trim);
      const auto null = olmoe::as_null(
          olmoe::fit_null(olmoe::losing_scores(fit, score, trim), olmoe::NullMethod::kde),
          {.score = score});
      const auto check = olmoe::uniformity(null, olmoe::losing_scores(held_out, score, trim));
      CHECK(check.samples == 3000 * (32 - trim));
      CHECK(check.ks < 0.015);
      CHECK(check.below_0_05 == doctest::Approx(0.05).epsilon(0.1));
    }
  }
}

TEST_CASE("uniformity, by hand") {
  // p = exp(-x) for x >= 0.
  const auto null =
      fdroute::TabulatedNull::from_log_survival({0.0, 1.0}, {0.0, -1.0}, {.score = "logit"});
  const auto score = [](double p) { return static_cast<float>(-std::log(p)); };
  const std::vector<float> scores{score(0.02), score(0.25), score(0.5), score(0.6)};
  const auto check = olmoe::uniformity(null, scores);
  CHECK(check.samples == 4);
  CHECK(check.below_0_05 == 0.25);
  CHECK(check.ks == doctest::Approx(0.4));  // all p-values are <= 0.6
}

TEST_CASE("a saved nulls file is what was fitted, and knows its model") {
  const olmoe::Model model(tiny + "plain");
  const auto texts = one_text(model);
  const auto native = routers(model, "native");
  const auto fitted = olmoe::fit_nulls(olmoe::record_logits(model, native, texts).fit,
                                       {.score = "log_softmax", .trim = 2}, "plain");
  const TempDir directory;
  const auto path = directory.path() / "nulls.safetensors";
  olmoe::save_nulls(path, fitted, model, {{"texts", "random"}});

  const auto loaded = olmoe::load_nulls(path, 2);
  const auto direct = fitted.nulls();
  REQUIRE(loaded.size() == direct.size());
  for (std::size_t l = 0; l < loaded.size(); ++l) {
    CHECK(loaded[l].fitted_on() == "log_softmax");
    CHECK(loaded[l].provenance().trim == 2);
    CHECK(loaded[l].provenance().tokens == 600);
    CHECK(loaded[l].provenance().model == "plain");
    CHECK(loaded[l].provenance().layer == static_cast<int>(l));
    for (double x = -9.0; x < 3.0; x += 0.1) CHECK(loaded[l](x) == direct[l](x));
  }
  const olmoe::SafetensorsFile file(path);
  CHECK(file.metadata().at("texts") == "random");
  CHECK(file.metadata().at("method") == "kde");

  CHECK(file.metadata().at("router_sha256") == olmoe::router_sha256(model));
}
