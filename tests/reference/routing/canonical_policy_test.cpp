#include "routing/canonical_policy.hpp"

#include <doctest/doctest.h>

#include <fdroute/compile_once.hpp>

TEST_CASE("A canonical policy comes apart and together") {
  const auto router = fdroute::parse_router("topk:k=2,temperature=0.5,renormalize=true", 8);
  const olmoe::CanonicalPolicy policy(router.policy());
  CHECK(policy.name == "topk");
  CHECK(policy.arguments.at("k") == "2");
  CHECK(fdroute::parse_router(policy.text(), 8).policy() == router.policy());
}
