#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numbers>
#include <numeric>
#include <random>

#include "measure/calibration.hpp"
#include "reference/error_of.hpp"
#include "reference/temp_dir.hpp"
#include "routing/nulls.hpp"
#include "routing/routing.hpp"

namespace {

using olmoe::LayerLogits;
using olmoe::NullMethod;
using olmoe::NullTable;
using olmoe::Text;

const std::string tiny = FDROUTE_SOURCE_DIR "/tests/data/tiny/";

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
  return fdroute::TabulatedNull::from_log_survival(table.score, table.log_sf, {.score = "logit"});
}

LayerLogits random_logits(std::size_t tokens, int experts) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  LayerLogits logits{.values = {}, .counts = {}, .experts = experts};
  for (std::size_t i = 0; i < tokens * static_cast<std::size_t>(experts); ++i)
    logits.values.push_back(normal(random));
  return logits;
}

std::vector<Text> texts_for(const olmoe::Model& model) {
  Text text{"random", {}, ""};
  std::mt19937 random(5);
  for (int i = 0; i < 600; ++i)
    text.ids.push_back(static_cast<std::int32_t>(
        random() % static_cast<std::uint32_t>(model.config().vocab_size)));
  return {text};
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
  // Smoothing with bandwidth h is exactly a normal of variance 1 + h^2.
  const double sd = std::sqrt(1.0 + kde.bandwidth * kde.bandwidth);
  const auto null = null_of(kde);
  for (double x = -5.0; x < kde.tail_from; x += 0.01)
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
    for (const float s : sample)
      sum += normal_survival((x - static_cast<double>(s)) / table.bandwidth) / 500.0;
    worst = std::max(worst, std::abs(null(x) - sum));
  }
  CHECK(worst < 1.5e-6);  // 1e-6 of the table and 5e-7 of the lattice
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
  for (const char* score : {"logit", "log_softmax", "zscore"}) {
    for (const int trim : {0, 4}) {
      CAPTURE(score);
      CAPTURE(trim);
      const auto null =
          null_of(olmoe::fit_null(olmoe::losing_scores(fit, score, trim), NullMethod::kde));
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

TEST_CASE("recording keeps the logits of whole texts, in windows, some held out") {
  const olmoe::Model model(tiny + "plain");
  const auto texts = texts_for(model);
  const auto native = olmoe::make_routers(model.config(), "native", std::filesystem::path());
  const auto all = olmoe::record_logits(model, native, texts, {.window = 64});
  REQUIRE(all.fit.size() == 2);
  CHECK(all.fit[0].tokens() == 600);
  CHECK(all.held_out[0].tokens() == 0);

  // The second window alone: its tokens see nothing of the first.
  olmoe::KvCache cache;
  olmoe::ForwardTrace trace;
  model.forward(std::span(texts[0].ids).subspan(64, 64), cache, native,
                olmoe::Model::LogitsOf::no_token, &trace);
  CHECK(std::equal(trace.routing[1].logits.begin(), trace.routing[1].logits.end(),
                   all.fit[1].values.begin() + std::ptrdiff_t{64} * 8));
  CHECK(std::equal(trace.routing[1].counts.begin(), trace.routing[1].counts.end(),
                   all.fit[1].counts.begin() + 64));

  const auto split = olmoe::record_logits(model, native, texts,
                                          {.window = 64, .skip_first = 4, .held_out_share = 0.1});
  CHECK(split.fit[0].tokens() == 9 * 60);              // 9 whole windows
  CHECK(split.held_out[0].tokens() == 600 - 576 - 4);  // and the rest of the text

  CHECK_THROWS_AS(olmoe::record_logits(model, native, texts, {.window = 65}),
                  std::invalid_argument);
  CHECK_THROWS_AS(olmoe::record_logits(model, native, texts, {.window = 8, .skip_first = 8}),
                  std::invalid_argument);
  const std::vector<Text> one{{"one window", {1, 2, 3}, ""}};
  CHECK(error_of([&] {
          olmoe::record_logits(model, native, one, {.window = 8, .held_out_share = 0.1});
        }) == "one window: is too short to hold a window of 8 tokens out: it has 3");
}

TEST_CASE("a saved nulls file is what was fitted, knows its model and refuses another") {
  const olmoe::Model model(tiny + "plain");
  const auto texts = texts_for(model);
  const auto native = olmoe::make_routers(model.config(), "native", std::filesystem::path());
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

  olmoe::check_nulls_model(path, model);
  CHECK(error_of([&] { olmoe::check_nulls_model(path, olmoe::Model(tiny + "gqa")); }) ==
        path.string() +
            ": was fitted on another model, 'plain': its routers differ from this one's");
}

TEST_CASE("solving a policy for a mean number of experts") {
  const olmoe::Model model(tiny + "plain");
  const auto texts = texts_for(model);
  const auto native = olmoe::make_routers(model.config(), "native", std::filesystem::path());
  const auto nulls = olmoe::fit_nulls(olmoe::record_logits(model, native, texts).fit,
                                      {.score = "log_softmax", .trim = 2}, "plain")
                         .nulls();
  for (const char* policy : {"bh:alpha=?,min_k=1,max_k=6", "top_p:p=?", "relative:t=?,max_k=7"}) {
    for (const bool per_layer : {false, true}) {
      CAPTURE(policy);
      CAPTURE(per_layer);
      const auto solved = olmoe::solve_policy(
          model, {.policy = policy, .mean_experts = 3.0, .per_layer = per_layer}, nulls, texts);
      CHECK(std::abs(solved.mean_experts - 3.0) <= 0.01);
      CHECK((solved.policy.find('/') != std::string::npos) == per_layer);
      // Running the string that it gives is what it measured.
      const auto again = olmoe::record_logits(
          model, olmoe::make_routers(model.config(), solved.policy, std::span(nulls)), texts);
      double sum = 0.0;
      for (std::size_t l = 0; l < 2; ++l) {
        const auto& counts = again.fit[l].counts;
        const double mean = std::accumulate(counts.begin(), counts.end(), 0.0) / 600.0;
        CHECK(solved.layer_mean_experts[l] == doctest::Approx(mean));
        if (per_layer) CHECK(std::abs(mean - 3.0) <= 0.01);
        sum += mean;
      }
      CHECK(solved.mean_experts == doctest::Approx(sum / 2.0));
    }
  }
}

TEST_CASE("targets that cannot be") {
  const olmoe::Model model(tiny + "plain");
  const auto check = [&](const std::string& policy, double mean) -> std::string {
    try {
      olmoe::check_target(model.config(), {.policy = policy, .mean_experts = mean}, "logit");
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "no error";
  };
  CHECK(check("bh:alpha=?,max_k=4", 4.0) == "no error");
  CHECK(check("bh:alpha=?,max_k=4", 4.5).find("bounds from 1 to 4 experts") != std::string::npos);
  CHECK(check("bh:alpha=0.1", 2.0).find("one value, and only one, must be '?'") !=
        std::string::npos);
  CHECK(check("bh:alpha=?,min_k=?", 2.0).find("only one") != std::string::npos);
  CHECK(check("bh:alhpa=?", 2.0).find("unknown key 'alhpa'") != std::string::npos);
}
