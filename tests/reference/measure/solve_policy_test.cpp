#include "measure/solve_policy.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>

#include "measure/null_fit.hpp"
#include "measure/recorded_logits.hpp"
#include "reference/random_texts.hpp"

TEST_CASE("solving a policy for a mean number of experts") {
  const olmoe::Model model(tiny + "plain");
  const auto texts = one_text(model);
  const auto native = routers(model, "native");
  const auto nulls = olmoe::fit_nulls(olmoe::record_logits(model, native, texts).fit,
                                      {.score = "log_softmax", .trim = 2}, "plain")
                         .nulls();
  for (const char* policy :
       {"bh:alpha=?,min_k=1,max_k=6", "top_p:p=?", "relative:t=?,max_k=7", "slope:sigma=0.3,c=?"}) {
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

TEST_CASE("a selection bias has its part in what is solved") {
  const olmoe::Model model(tiny + "plain");
  const auto texts = one_text(model);
  const auto experts = static_cast<std::size_t>(model.config().num_experts);
  std::vector<std::vector<float>> bias(2, std::vector<float>(experts, 0.0F));
  for (std::vector<float>& layer : bias) layer.front() = 3.0F;
  const std::string policy = "threshold:t=?,ranking=sigmoid";
  const auto solve = [&](std::span<const std::vector<float>> with) {
    return olmoe::solve_policy(model, {.policy = policy, .mean_experts = 3.0}, {}, texts, {}, with);
  };
  const auto solved = solve(bias);
  CHECK(std::abs(solved.mean_experts - 3.0) <= 0.01);
  CHECK(solved.policy != solve({}).policy);
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
