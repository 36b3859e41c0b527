#include <doctest/doctest.h>

#include <vector>

#include "../oracle.hpp"
#include "../support.hpp"
#include "routes.hpp"

namespace {

void check_alike(const Routes& a, const Routes& b) {
  CHECK(a.scores == b.scores);
  CHECK(a.p == b.p);
  CHECK(a.experts == b.experts);
  CHECK(a.counts == b.counts);
  REQUIRE(a.weights.size() == b.weights.size());
  int far = 0;
  for (std::size_t i = 0; i < a.weights.size(); ++i)
    far += static_cast<int>(oracle::ulps_between(a.weights[i], b.weights[i]) > 4);
  CHECK(far == 0);
}

}  // namespace

TEST_CASE("translation units with other flags can be linked, and route alike") {
  test::Random random(131);
  const int experts = 48;
  std::vector<float> logits;
  for (int i = 0; i < 400 * experts; ++i) logits.push_back(2.0F * random.normal());
  const Routes plain = routes_plain(logits, experts);
  REQUIRE(plain.counts.size() == 5 * 400);
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    MESSAGE("linked, but this machine cannot run AVX2");
    return;
  }
  SUBCASE("linked together") {
    check_alike(routes_avx2(logits, experts), plain);
  }
  SUBCASE("with code of its own") {
    check_alike(routes_avx2_alone(logits, experts), plain);
  }
}
