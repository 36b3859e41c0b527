#include "measure/permuted_control.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fdroute/compile_once.hpp>
#include <numbers>
#include <random>
#include <vector>

namespace {

/// Independent standard normal logits, by Box and Muller.
olmoe::LayerLogits noise(std::size_t tokens, int experts) {
  std::mt19937_64 random(1);
  const auto uniform = [&] { return (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53; };
  olmoe::LayerLogits layer{.values = {}, .counts = {}, .experts = experts};
  for (std::size_t i = 0; i < tokens * static_cast<std::size_t>(experts); ++i)
    layer.values.push_back(static_cast<float>(std::sqrt(-2.0 * std::log(uniform())) *
                                              std::cos(2.0 * std::numbers::pi * uniform())));
  return layer;
}

}  // namespace

TEST_CASE("On rows of the null itself BH rejects anything on a share alpha of them") {
  constexpr std::size_t tokens = 20'000;
  for (const double alpha : {0.05, 0.2}) {
    CAPTURE(alpha);
    const auto router = fdroute::parse_router(
        "bh:null=normal,score=logit,min_k=0,max_k=1,alpha=" + std::to_string(alpha), 64);
    const olmoe::RouterLogits logits{noise(tokens, 64)};
    const auto control = olmoe::permuted_control(std::vector{router}, logits, 1);
    // Simes' equality; with max_k = 1 the mean count is the share of rows. Independent logits stay
    // so when they are permuted. Four standard errors.
    const double bound = 4.0 * std::sqrt(alpha * (1.0 - alpha) / tokens);
    CHECK(std::abs(control.recorded.mean - alpha) < bound);
    CHECK(std::abs(control.permuted.mean - alpha) < bound);
  }
}

TEST_CASE("Permuting keeps each expert's logits and loses what they have to do with each other") {
  // Both experts of an even token have 3, of an odd one 0; with a threshold at 1, two or none.
  olmoe::LayerLogits layer{.values = {}, .counts = {}, .experts = 2};
  for (int t = 0; t < 4000; ++t) layer.values.insert(layer.values.end(), 2, t % 2 == 0 ? 3.F : 0.F);
  const auto router = fdroute::parse_router("bonferroni:null=normal,score=logit,min_k=0,alpha=0.3",
                                            2);  // p <= 0.15: logits above 1.04
  const auto control = olmoe::permuted_control(std::vector{router, router}, {layer, layer}, 7);
  CHECK(control.recorded.mean == 1.0);
  CHECK(control.recorded.sd == 1.0);
  CHECK(control.permuted.mean == 1.0);
  CHECK(control.permuted.sd == doctest::Approx(std::sqrt(0.5)).epsilon(0.02));
  const auto again = olmoe::permuted_control(std::vector{router, router}, {layer, layer}, 7);
  CHECK(again.permuted.sd == control.permuted.sd);
}
