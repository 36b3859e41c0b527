#include "measure/null_control.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "routing/parse_once.hpp"

TEST_CASE("The null control: BH rejects anything on a share alpha of independent noise") {
  for (const double alpha : {0.05, 0.2}) {
    CAPTURE(alpha);
    const std::vector routers{
        fdroute::parse_router("bh:null=normal,min_k=2,max_k=8,alpha=" + std::to_string(alpha), 64)};
    const auto noise = olmoe::null_control(routers);
    REQUIRE(noise.has_value());
    // Simes' equality; four standard errors of 20000 rows.
    CHECK(std::abs(noise->rejecting - alpha) < 4.0 * std::sqrt(alpha * (1.0 - alpha) / 20000.0));
    CHECK(noise->mean >= 2.0);
    CHECK(noise->mean < 2.2);
  }
  CHECK_FALSE(olmoe::null_control(std::vector{fdroute::parse_router("topk:k=2", 64)}).has_value());
}

TEST_CASE("The null control of a rule is its own, whatever model it is put into") {
  const std::string rule = "min_k=2,max_k=8,null=logistic,alpha=0.3";
  const auto noise = [](const std::string& policy) {
    return olmoe::null_control(std::vector{fdroute::parse_router(policy, 64)});
  };
  const auto expected = noise("bh:" + rule);
  REQUIRE(expected.has_value());
  for (const std::string policy :
       {"preset:mixtral,rule=bh,", "preset:deepseek-v3,selection_bias=none,rule=bh,",
        "bh:ranking=group_limited(sigmoid),groups=8,kept=2,weights=scaled(sigmoid),factor=2,",
        "bh:ties=highest,weights=sigmoid,"}) {
    CAPTURE(policy);
    const auto composed = noise(policy + rule);
    REQUIRE(composed.has_value());
    CHECK(composed->mean == expected->mean);
    CHECK(composed->rejecting == expected->rejecting);
  }
  CHECK_FALSE(noise("preset:mixtral,rule=topk").has_value());
}
